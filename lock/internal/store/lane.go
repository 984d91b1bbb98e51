package store

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// lane is the renewals that wait to be sent to one server.
type lane struct {
	waiting []renewal
	senders int // but for those that are stuck
	stuck   int
	hanging int                   // of those that are stuck, as they open a connection; 0 with Sentinel
	usual   time.Duration         // how long the last pipeline took that was answered
	client  redis.UniversalClient // of its own, or else the application's
	own     bool
	moves   bool      // each connection may lead to another server, and is used for a short time only
	detour  time.Time // until when the application's connections come first, as opening one has hung
}

// departure is a pipeline of renewals that leaves.
type departure struct {
	ctx     context.Context         // bounds it
	clients []redis.UniversalClient // to try, one after the other
	opening bool                    // whether it seems to need a new connection
	arrived func()                  // is to be called when the clients have been tried
}

// depart is called when a pipeline leaves. If it takes longer than is usual there, its sender counts as stuck until it has
// arrived.
func (r *renewals) depart(l *lane, work []renewal) departure {
	opening, clients := l.isOpening(), r.lenders(work[0].call.keys[0])
	timeouts := r.longest()
	for _, w := range work {
		timeouts = timeouts.Or(w.timeouts)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	detour := time.Now().Before(l.detour) || opening && l.hanging > 0
	count := func(stuck int) {
		l.stuck += stuck
		l.senders -= stuck
		if opening && !detour && !l.moves { // with Sentinel the application's may lead to a former master, so that is for what has failed
			l.hanging += stuck
		}
		if r.ctx.Err() == nil {
			r.start(l)
		}
	}
	// Where the server is far there is no time for another try anyway.
	timeout := timeouts.Opening
	switch {
	case !opening:
		timeout = min(timeout, max(timeouts.Open, 2*l.usual))
	case l.usual > 0: // to connect takes two round trips, or three with TLS
		timeout = min(timeout, max(timeouts.Open, 4*l.usual))
	}
	if detour { // the application may have used up its connections: there is to be time to leave the detour
		clients, timeout = append(clients, l.client), min(timeout, timeouts.Open)
	} else {
		clients = slices.Insert(clients, 0, l.client)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(r.ctx, timeout)
	timer := time.AfterFunc(max(minStuck, l.usual*3/2), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		count(1)
	})
	return departure{ctx, clients, opening, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case ctx.Err() == nil:
			l.usual = time.Since(began)
		case opening:
			l.usual = 0 // the next one has more time: the server may be another one, and farther
			l.detour = time.Time{}
			if !detour {
				l.detour = time.Now().Add(detourTime)
			}
		}
		cancel()
		if !timer.Stop() {
			count(-1)
		}
	}}
}

// isOpening reports whether what is sent next seems to need a new connection.
func (l *lane) isOpening() bool { return l.own && (l.moves || l.client.PoolStats().IdleConns == 0) }

// onDetour reports whether the application's connections come first where a new one seems to be needed: opening one has hung,
// or seems to. The caller holds mu.
func (l *lane) onDetour() bool { return l.hanging > 0 || time.Now().Before(l.detour) }

// isFull reports whether no other sender is to take so much work. The application may have one connection only, and opening
// another one hangs, so that on the detour there is one sender at a time. The caller holds mu.
func (l *lane) isFull(work int) bool {
	return l.senders >= renewalSenders && work < renewalBatch || l.senders >= 1 && l.onDetour()
}

func (l *lane) close() {
	if l.own {
		_ = l.client.Close() // what is under way fails
	}
}
