package browser

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShots(t *testing.T) {
	url := os.Getenv("PAGE")
	for name, c := range map[string]screen{"d-light": {1280, 900, "light"}, "d-dark": {1280, 900, "dark"}, "p-light": {390, 844, "light"}, "p-dark": {390, 844, "dark"}} {
		b := open(t, url, c)
		b.reads("#link", "live")
		time.Sleep(1500 * time.Millisecond)
		b.shoot(name)
		require.Empty(t, b.problems())
	}
}
