package client

import (
	"crypto/tls"
	"sync"
	"sync/atomic"

	"github.com/compozy/cache/internal/redisx"
)

// sessions is the ClientSessionCache of a TLSConfig. A server sends its tickets after the handshake, so that the application's
// Put runs within the read of a reply: it must neither hold that up nor end the goroutine, which may be one of go-redis.
type sessions struct {
	tls.ClientSessionCache

	busy    atomic.Bool // Put is under way
	removed sync.Map    // the keys whose session must not be used again
}

// Get returns the session of key, unless that was removed.
func (s *sessions) Get(key string) (*tls.ClientSessionState, bool) {
	if _, gone := s.removed.Load(key); gone {
		return nil, false
	}
	return s.ClientSessionCache.Get(key)
}

// Put keeps session, or removes that of key if there is none, without waiting for it. While another one is being kept, this one
// is not: a whole handshake is all that this can cost, as it is after a panic. What crypto/tls removes, as a handshake with
// it failed, is hidden at once.
func (s *sessions) Put(key string, session *tls.ClientSessionState) {
	if session == nil {
		s.removed.Store(key, true)
	}
	if !s.busy.CompareAndSwap(false, true) {
		return
	}
	if session != nil {
		s.removed.Delete(key)
	}
	redisx.Go(func() error {
		defer s.busy.Store(false)
		s.ClientSessionCache.Put(key, session)
		return nil
	})
}
