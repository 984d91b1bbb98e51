package client

import (
	"crypto/tls"
	"sync/atomic"

	"github.com/compozy/cache/internal/redisx"
)

// sessions is the ClientSessionCache of a TLSConfig. A server sends its tickets after the handshake, so that the application's
// Put runs within the read of a reply: it must neither hold that up nor end the goroutine, which may be one of go-redis.
type sessions struct {
	tls.ClientSessionCache

	busy atomic.Bool // Put is under way
}

// Put keeps session without waiting for it. While another one is being kept, this one is not: a whole handshake is all that
// this can cost, as it is after a panic.
func (s *sessions) Put(key string, session *tls.ClientSessionState) {
	if !s.busy.CompareAndSwap(false, true) {
		return
	}
	redisx.Go(func() error {
		defer s.busy.Store(false)
		s.ClientSessionCache.Put(key, session)
		return nil
	})
}
