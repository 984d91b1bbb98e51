package notification_test

import (
	"slices"
	"testing"
	"time"

	"github.com/compozy/cache/notification"
)

// listener is a subscription to which all belongs that each author has published after a number.
type listener struct {
	*recorder

	pattern string
	process *process // that it is in; nil for this one
	behind  map[*author]int
	lost    map[*author]bool // there was a gap behind that number, before the listener resumed
}

// last returns the last number of an author that arrived, 0 before the first.
func (l *listener) last(a *author) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range slices.Backward(l.messages) {
		if n, err := a.numberOf(m); err == nil {
			return n
		}
	}
	return 0
}

// endsWithGap reports whether events of an author may be missing behind the last that arrived: others came behind a gap.
func (l *listener) endsWithGap(a *author) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range slices.Backward(l.messages) {
		if _, err := a.numberOf(m); err == nil {
			return false
		}
		if m.Gap != nil {
			return true
		}
	}
	return l.lost[a]
}

// lastID returns the ID of the last event that arrived, empty before the first.
func (l *listener) lastID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range slices.Backward(l.messages) {
		if m.EventID != "" {
			return m.EventID
		}
	}
	return ""
}

// verify looks at what a listener has got. Where the former master lives on, somebody may still publish there when a listener has
// gone on to the new one, and has got what others have published there behind the gap. So what was sent then may be missing
// away from its gap.
func (m *model) verify(t *testing.T, l *listener) {
	t.Helper()
	defer func() {
		if t.Failed() {
			l.show(t)
		}
	}()
	excused := make(map[int32]bool)
	for i, f := range m.failovers {
		excused[int32(i+1)] = l.hasGap(f) //nolint:gosec // a few
	}
	for _, a := range m.authors {
		last, arrived := l.last(a), l.numbersOf(a)
		begun := !l.lost[a]
		var sent []int
		for _, n := range a.sent {
			during := a.during[n] > 0 && excused[a.during[n]]
			begun = begun || arrived[n]
			if begun && n > l.behind[a] && n <= last && (arrived[n] || !during) {
				sent = append(sent, n)
			}
		}
		l.verifyOf(t, sent, a.numberOf)
	}
}

// hasGap reports whether a gap was noticed during a failover.
func (l *listener) hasGap(f failover) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.messages, func(m *notification.Message) bool {
		return m.Gap != nil && f.began.Before(m.Gap.Time) && m.Gap.Time.Before(f.ended)
	})
}

// numbersOf returns the numbers of an author that arrived.
func (l *listener) numbersOf(a *author) map[int]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers := make(map[int]bool)
	for _, m := range l.messages {
		if n, err := a.numberOf(m); err == nil {
			numbers[n] = true
		}
	}
	return numbers
}

// show logs what a listener has got. A seed gives the same faults again, but not at the same moments.
func (l *listener) show(t *testing.T) {
	t.Helper()
	t.Logf("subscription to %q, in another process: %v, listened after %q:", l.pattern, l.process != nil, l.after)
	for a, number := range l.behind {
		t.Logf("after number %d of author %d", number, a.by)
	}
	for i, m := range l.messages {
		event, _ := notification.Decode[struct {
			Data said `json:"data"`
		}](m)
		if m.EventID == "" {
			t.Logf("message %d: %s", i, m.Payload)
		}
		t.Logf("message %d: number %d of author %d, ID %s, published %s, recovered %v, redelivered %v, gap %+v",
			i, event.Data.N, event.Data.By, m.EventID, m.Time.Format(time.StampMicro), m.Recovered, m.Redelivered, m.Gap)
	}
}
