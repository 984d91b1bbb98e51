package notification

import (
	"time"

	"go.uber.org/zap"
)

// control keeps what Redis was asked for equal to what the registry wants: new names are added, idle ones dropped
// after a while. Any error ends the session, and the next one begins with all names.
func (p *pump) control() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-p.poke:
		case <-timer.C:
		case <-p.ctx.Done():
			return
		}
		timer.Reset(p.reconcile())
	}
}

// reconcile returns when it should be called again at the latest.
func (p *pump) reconcile() time.Duration {
	next := time.Hour
	// Names are taken for a session while it is certainly the current one: what the next begins with was counted
	// after this one had ended.
	var added, idle []*topic
	p.mu.Lock()
	s := p.session
	if s != nil {
		added = p.system.registry.added()
	}
	if s == nil || s == p.live {
		var wait time.Duration
		if idle, wait = p.system.registry.expire(time.Now(), p.system.set.linger, s != nil); wait > 0 {
			next = wait
		}
	} else {
		next = time.Second // Redis may not have been asked yet for the names that the session begins with
	}
	p.mu.Unlock()
	if s == nil {
		return next
	}
	if err := p.update(s, idle, added); err != nil && p.ctx.Err() == nil {
		p.system.set.logger.Debug("notification: changing subscriptions failed", zap.Error(err))
		s.end()
	}
	return next
}

// update tells Redis. A name that is wanted again just after it was dropped is not among those added now but with
// the next call, so the order on the connection is right.
func (p *pump) update(s *session, idle, added []*topic) error {
	if len(idle) > 0 {
		if err := s.forget(idle); err != nil {
			return err
		}
	}
	if len(added) == 0 {
		return nil
	}
	p.notePlace(s, added)
	return s.ask(added)
}

// notePlace remembers for new names where the journal ends, so that a later recovery gives their subscriptions
// nothing older. It has to happen before Redis is asked for them: what is published from then on is theirs. It is
// a nicety, so its failure is none.
func (p *pump) notePlace(s *session, added []*topic) {
	// Before the session is live, another server may answer. The recovery that is to come makes up for it.
	if p.system.set.history == 0 || !s.wasLive.Load() {
		return
	}
	now, err := p.beside(s).look(s.ctx, "", 0)
	if err != nil {
		return
	}
	for _, t := range added {
		t.mu.Lock()
		if !t.everLive {
			t.start = now.last.pos
		}
		t.mu.Unlock()
	}
}
