package near

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// master is a server to listen to.
type master struct {
	t    *Tracker
	addr string
	node *redis.Client // of a cluster; else nil

	ctx    context.Context // ends when it is no master any more
	cancel context.CancelFunc

	session sync.Mutex // guards current
	current *session

	// What follows is guarded by the tracker's mu.
	id        string // of the node in its cluster, while there is a session
	ready     bool   // changes are heard, and the server is what it should be
	published bool   // they are those that are published
	mark      int64  // instant up to which all were heard
}

// run keeps a session.
func (m *master) run() {
	for failures := 0; m.ctx.Err() == nil; {
		began := time.Now()
		err := m.attempt()
		m.t.change(m.unheard)
		if m.ctx.Err() != nil {
			return
		}
		if errors.Is(err, errPrefixes) {
			continue
		}
		if time.Since(began) > 2*maxPause {
			failures = 0
		}
		failures++
		m.t.failed(err, failures)
		m.t.look()
		_ = redisx.Sleep(m.ctx, redisx.Backoff(failures, minPause, maxPause))
	}
}

// attempt is one session from its beginning to its end. It returns why it ended.
func (m *master) attempt() error {
	s := newSession(m)
	m.session.Lock()
	m.current = s
	m.session.Unlock()
	// A cache that was added before is in the plan that is read now; one that is added from now on restarts the session.
	s.prefixes, s.limit = m.t.plan()
	return redisx.Apart(s.run) // the dialer and OnConnect of the client are not ours
}

// unheard says that there is no session. It is called with the tracker's mu held.
func (m *master) unheard() { m.ready, m.mark, m.id = false, never, "" }

// restart ends the session, so that another one begins.
func (m *master) restart(err error) {
	m.session.Lock()
	defer m.session.Unlock()
	if m.current != nil {
		m.current.cancel(err)
	}
}

// disjoint returns the prefixes without those that begin with another one. Redis refuses to track these.
func disjoint(prefixes []string) []string {
	slices.Sort(prefixes)
	var kept []string
	for _, p := range prefixes {
		if len(kept) == 0 || !strings.HasPrefix(p, kept[len(kept)-1]) {
			kept = append(kept, p)
		}
	}
	return kept
}
