package notification

// suspects are names that an event was for whose place is not behind the events before it, and others that came until the
// connection was given up. Either the journal was replaced, and then it has them, or they are of another one, and foreign.
type suspects map[*topic]struct{}

// skipped is called for a message that is not delivered: the journal has it, and the recovery that is to come will find it
// there, or it is a suspect.
func (p *pump) skipped(it item) {
	d := p.dispatcher
	if d.suspect == nil {
		return
	}
	if e, _ := p.open(it.payload); e.pos.isZero() || !d.highest.pos.less(e.pos) {
		for _, t := range p.system.registry.matching(it.channel) { // copies may not be read any more
			d.suspect[t] = struct{}{}
		}
	}
}

// foreignIn tells that foreign messages of these names are lost. Names that are known to have such were told already.
func (p *pump) foreignIn(names suspects) {
	told := 0
	for t := range names {
		t.mu.Lock()
		if !t.foreign {
			t.foreign = true
			told += p.tellForeign(t)
		}
		t.mu.Unlock()
	}
	p.logGaps(GapForeign, told)
}
