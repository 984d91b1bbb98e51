package notification

// recover begins delivery in a new session, after everything it subscribes to was confirmed.
func (p *pump) recover(s *session) {
	d := p.dispatcher
	for _, t := range s.topics {
		t.mu.Lock()
		if t.everLive {
			for _, sub := range t.subs {
				sub.missed(GapReconnected)
			}
		}
		t.mu.Unlock()
		p.goLive(t)
	}
	d.up = true
	for _, name := range d.early {
		p.added(name)
	}
	d.early = nil
	p.setUp(true)
}

// missed tells a subscription that was live before the cut that events may be missing.
func (s *Subscription) missed(reason GapReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != pending {
		s.tell(Gap{Reason: reason})
	}
}
