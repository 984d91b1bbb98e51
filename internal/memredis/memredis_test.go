package memredis_test

import (
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/memredis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCloseWhileSomebodyDials fails, under the race detector, with miniredis alone.
func TestCloseWhileSomebodyDials(t *testing.T) {
	t.Parallel()
	for range 100 {
		server := memredis.New()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					conn, err := server.Dial(t.Context(), "", "")
					if err != nil {
						return
					}
					_ = conn.Close()
				}
			})
		}
		server.Close()
		all.Wait()
		server.Close()
	}
}
