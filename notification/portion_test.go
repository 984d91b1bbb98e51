package notification

import (
	"errors"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPortion(t *testing.T) {
	t.Parallel()
	timeout := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	p := newPortion(500)
	assert.False(t, p.failed(errors.New("NOPERM")), "less would not help")
	for _, size := range []int{125, 31, 7, 1} {
		assert.True(t, p.failed(timeout))
		assert.Equal(t, size, p.size)
	}
	assert.False(t, p.failed(timeout), "there is no less")
	for p.size < 500 {
		before := p.size
		p.arrived()
		require.Less(t, before, p.size)
	}
	p.arrived()
	assert.Equal(t, 500, p.size)
}
