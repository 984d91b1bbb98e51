package feed

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// chunkNames and chunkBytes bound how many names one command asks for.
	chunkNames = 128
	chunkBytes = 16 << 10
	// window bounds the answers that are under way. Redis cuts a connection that leaves 8 MB of them unread for long.
	window = 1 << 20
	// answerBytes is what an answer has beside the name.
	answerBytes = 48
)

// names is what is wanted, and what Redis has been asked for.
type names struct {
	linger time.Duration
	wake   chan struct{} // there is something to ask for, or to forget; never holds more than one
	repeat atomic.Bool   // again is not empty

	mu      sync.Mutex
	all     map[Name]*entry
	idle    []idle   // given up, the oldest first
	again   []*entry // to be confirmed once more, as they were added again
	session *Session // what Redis is asked in; nil while there is none
}

// entry is one name. It is guarded by names.mu.
type entry struct {
	name      Name
	since     time.Time // when it was given up; zero while it is wanted
	queued    bool      // it is in idle
	confirmed bool      // in this session
	awaited   bool      // the session is not up before it was answered for
	repeated  bool      // it is in again
	gone      bool      // it is forgotten; the same name may have another entry
}

// weight is what an answer for it costs.
func (e *entry) weight() int { return len(e.name.Text) + answerBytes }

// idle is an entry that was given up at a time. It may be wanted again since.
type idle struct {
	*entry
	since time.Time
}

// talk is what is said about names in one session. It is guarded by names.mu.
type talk struct {
	todo    []step    // not yet sent
	asked   []command // sent and not answered, in their order
	weight  int       // bytes of the answers to asked
	awaited int       // names the session began with that were not answered for
}

// step is one name to ask for, or to ask for no longer.
type step struct {
	*entry
	drop  bool
	alone bool // in a command of its own
}

// verb returns the name of the command.
func (s step) verb() string {
	verb := "subscribe"
	if s.drop {
		verb = "unsubscribe"
	}
	if s.name.Glob {
		verb = "p" + verb
	}
	return verb
}

// command is one command about several names. Redis answers for each, in their order, or refuses the command as a whole.
type command struct {
	verb    string
	drop    bool
	entries []*entry // those that were not answered for
}

func (c *command) texts(prefix string) []string {
	texts := make([]string, len(c.entries))
	for i, e := range c.entries {
		texts[i] = prefix + e.name.Text
	}
	return texts
}

func newNames(linger time.Duration) *names {
	return &names{linger: linger, wake: make(chan struct{}, 1), all: make(map[Name]*entry)}
}

// poke wakes what asks.
func (n *names) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *names) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all)
}

func (n *names) add(names []Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		e := n.all[name]
		if e == nil {
			e = &entry{name: name}
			n.all[name] = e
			if n.session != nil {
				n.session.talk.todo = append(n.session.talk.todo, step{entry: e})
			}
		}
		e.since = time.Time{}
		if n.session != nil && e.confirmed && !e.repeated {
			e.repeated = true
			n.again = append(n.again, e)
			n.repeat.Store(true)
		}
	}
	n.poke()
}

func (n *names) remove(names []Name) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		e := n.all[name]
		if e == nil || !e.since.IsZero() {
			continue
		}
		e.since = now
		n.queue(e)
	}
	n.poke()
}

// expire forgets the names that were given up a while ago. It returns when to call it again at the latest.
func (n *names) expire() time.Duration {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.idle) > 0 {
		head := n.idle[0]
		e := head.entry
		left := n.linger - now.Sub(e.since)
		if e.since.Equal(head.since) && left > 0 {
			return left
		}
		n.idle = n.idle[1:]
		switch e.queued = false; {
		case e.since.IsZero() || e.gone:
		case left > 0:
			n.queue(e) // it was wanted meanwhile, and must not hold up those behind it
		default:
			n.forget(e)
		}
	}
	n.idle = nil // gives the memory back
	return time.Hour
}

// queue puts an entry where expire looks. The caller holds mu.
func (n *names) queue(e *entry) {
	if !e.queued {
		e.queued = true
		n.idle = append(n.idle, idle{e, e.since})
	}
}

// forget drops an entry, and makes Redis do so. The caller holds mu.
func (n *names) forget(e *entry) {
	e.gone = true
	delete(n.all, e.name)
	if n.session != nil {
		// Behind the question for it, which may still wait to be sent.
		n.session.talk.todo = append(n.session.talk.todo, step{entry: e, drop: true})
	}
}

// begin makes a session ask for every name.
func (n *names) begin(s *Session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.session = s
	n.again = nil
	s.talk.todo = make([]step, 0, len(n.all))
	for _, glob := range []bool{false, true} { // each kind together, as a command has names of one kind
		for name, e := range n.all {
			if name.Glob == glob {
				e.confirmed, e.repeated, e.awaited = false, false, true
				s.talk.todo = append(s.talk.todo, step{entry: e})
			}
		}
	}
	s.talk.awaited = len(n.all)
	n.poke()
}

// finish ends what begin began.
func (n *names) finish(s *Session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.session == s {
		n.session = nil
	}
	s.talk = talk{}
}

// take returns the next command to send, as long as Redis keeps up with answering.
func (n *names) take() (s *Session, c command, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.session == nil || len(n.session.talk.todo) == 0 || n.session.talk.weight >= window {
		return nil, c, false
	}
	s = n.session
	t := &s.talk
	first := t.todo[0]
	c = command{verb: first.verb(), drop: first.drop}
	bytes, taken := 0, 0
	for _, next := range t.todo {
		if taken > 0 && (taken == chunkNames || bytes >= chunkBytes || first.alone || next.alone || next.verb() != c.verb) {
			break
		}
		c.entries = append(c.entries, next.entry)
		bytes += next.weight()
		taken++
	}
	t.todo = t.todo[taken:]
	if len(t.todo) == 0 {
		t.todo = nil // gives the memory back
	}
	t.asked = append(t.asked, c)
	t.weight += bytes
	return s, c, true
}

// answered takes an answer for a name. It returns whose it is, and nil if nobody cares for the answer.
func (n *names) answered(s *Session, verb, text string) (*entry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &s.talk
	if len(t.asked) == 0 || t.asked[0].verb != verb || t.asked[0].entries[0].name.Text != text {
		return nil, fmt.Errorf("notification: an answer that does not fit the question: %s %q", verb, text)
	}
	c := &t.asked[0]
	e := c.entries[0]
	c.entries = c.entries[1:]
	n.lighter(t, e.weight())
	if len(c.entries) == 0 {
		t.asked = t.asked[1:]
	}
	if c.drop {
		return nil, nil //nolint:nilnil // as the comment of the method says
	}
	t.settle(e)
	if e.gone {
		return nil, nil //nolint:nilnil // as above
	}
	e.confirmed = true
	return e, nil
}

// refused takes the refusal of a command and returns that; ok is false if there is none. If it was about one name to listen
// to, the name is forgotten and returned. If it was about several, each is asked for alone: the others suffer for one.
func (n *names) refused(s *Session) (c command, forgotten *entry, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &s.talk
	if len(t.asked) == 0 {
		return c, nil, false
	}
	c = t.asked[0]
	t.asked = t.asked[1:]
	alone := len(c.entries) == 1
	for _, e := range c.entries {
		n.lighter(t, e.weight())
		switch {
		case c.drop:
		case e.gone:
			t.settle(e)
		case alone:
			t.settle(e)
			e.gone = true
			delete(n.all, e.name)
			forgotten = e
		default:
			t.todo = append(t.todo, step{entry: e, alone: true})
			n.poke()
		}
	}
	return c, forgotten, true
}

// lighter notes that an answer has arrived. The caller holds mu.
func (n *names) lighter(t *talk, bytes int) {
	if t.weight >= window/2 && t.weight-bytes < window/2 {
		n.poke()
	}
	t.weight -= bytes
}

// settle notes that a name was answered for.
func (t *talk) settle(e *entry) {
	if e.awaited {
		e.awaited = false
		t.awaited--
	}
}

// settled reports whether each name that a session began with was answered for.
func (n *names) settled(s *Session) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return s.talk.awaited == 0
}

// repeats returns the names that were added again and are confirmed.
func (n *names) repeats() []Name {
	if !n.repeat.Load() {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.repeat.Store(false)
	var repeats []Name
	for _, e := range n.again {
		e.repeated = false
		if e.confirmed && !e.gone {
			repeats = append(repeats, e.name)
		}
	}
	n.again = nil
	return repeats
}
