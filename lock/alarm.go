package lock

import "time"

// alarm goes off at the earliest of many times. Most of what it is set for is over long before, which it finds out when
// it goes off: to turn it off each time would cost more, see inlineCall. It belongs to somebody whose mutex guards it.
type alarm struct {
	ring  func()
	timer *time.Timer
	at    time.Time // when it goes off; whoever is called sets it to zero
}

// set makes sure that it goes off at t, or earlier.
func (a *alarm) set(t time.Time) {
	switch {
	case !a.at.IsZero() && !t.Before(a.at):
		return
	case a.timer == nil:
		a.timer = time.AfterFunc(time.Until(t), a.ring)
	default:
		a.timer.Reset(time.Until(t))
	}
	a.at = t
}

// stop turns it off.
func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
