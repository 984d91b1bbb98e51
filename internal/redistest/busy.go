package redistest

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
)

// errNotBusy is what waiting for a script to take too long comes back with.
var errNotBusy = errors.New("redistest: redis-server still answers")

// Occupy keeps the server busy with a script and returns when it answers BUSY
// to everything else, for which the server needs a low busy-reply-threshold.
// That lasts until release is called, or the test ends.
func (s *Server) Occupy(t TB) (release func()) {
	t.Helper()
	options := s.Options()
	options.ReadTimeout, options.MaxRetries = -1, -1 // one that is run again would keep it busy for ever
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	other := s.Client(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client.Do(context.Background(), "eval", "while true do end", "0")
	}()
	release = sync.OnceFunc(func() {
		other.ScriptKill(context.Background())
		<-ended
	})
	t.Cleanup(release)
	err := poll(shutdownLimit, func() error {
		if !redis.HasErrorPrefix(other.Ping(context.Background()).Err(), "BUSY") {
			return errNotBusy
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return release
}
