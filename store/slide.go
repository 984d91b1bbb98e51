package store

import (
	"context"
	"sync"

	"github.com/compozy/cache/internal/redisx"
)

// maxSlides is how many values are extended at the same time.
const maxSlides = 64

// slides has the keys whose values are being extended in the background: their readers do not wait for that.
type slides struct {
	mu   sync.Mutex
	keys map[string]struct{}
}

// slide has touch extend the value of a key, unless that is being done, or much else is. It does not matter if it fails: the
// next reader tries again. The caller has entered the gate.
func (c *core) slide(key string, touch func(ctx context.Context)) {
	if !c.slides.add(key) {
		return
	}
	c.gate.Go(func() {
		defer c.slides.remove(key)
		ctx, cancel := context.WithTimeout(redisx.Background(c.gate.Closing()), c.set.stateTimeout)
		defer cancel()
		_ = redisx.Catch(func() error { // of a hook of the client, which has no caller here who could recover
			touch(ctx)
			return nil
		})
	})
}

func (s *slides) add(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, under := s.keys[key]; under || len(s.keys) >= maxSlides {
		return false
	}
	if s.keys == nil {
		s.keys = make(map[string]struct{})
	}
	s.keys[key] = struct{}{}
	return true
}

func (s *slides) remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
}
