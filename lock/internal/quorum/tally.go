package quorum

import (
	"errors"
	"fmt"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// tally is what the replies of several servers add up to.
type tally struct {
	pending, granted, absent, refused, failed int
	token                                     int64         // the largest of those who granted
	stored                                    int           // how many of those have that token
	wait                                      time.Duration // the longest of those who refused
	ahead                                     int64         // the most of those who refused
	arrival                                   int64         // the earliest
	without                                   []int         // the servers that do not have the lock, or are not known to
	passedOn                                  bool
	errs                                      []error
}

func count(replies []store.Reply) tally {
	var t tally
	for i, r := range replies {
		switch r.Outcome {
		case store.Pending:
			t.pending++
		case store.Granted:
			t.granted++
			t.passedOn = t.passedOn || r.PassedOn
			if r.Token > t.token {
				t.token, t.stored = r.Token, 0
			}
			if r.Token == t.token {
				t.stored++
			}
		case store.Absent:
			t.absent++
			t.without = append(t.without, i)
		case store.Refused:
			t.refused++
			t.wait, t.ahead = max(t.wait, r.Wait), max(t.ahead, r.Ahead)
			if t.arrival == 0 || r.Arrival < t.arrival {
				t.arrival = r.Arrival
			}
		case store.Failed:
			t.failed++
			t.errs = append(t.errs, fmt.Errorf("node %d: %w", i, r.Err))
		case store.Unset:
			t.without = append(t.without, i)
			t.errs = append(t.errs, fmt.Errorf("node %d: %w", i, errUnset))
		}
	}
	return t
}

// loss returns why a lock is lost after such replies to an extension or a release, a pending reply if it is not: a majority may still
// hold it, as long as no more than the given number does not.
func (t *tally) loss(minority int) store.Reply {
	switch {
	case t.absent+t.refused <= minority:
		return store.Reply{}
	case t.refused > 0:
		return store.Reply{Outcome: store.Refused}
	default:
		return store.Reply{Outcome: store.Absent}
	}
}

// failure is loss where no more replies are waited for: a lock that is not known to be lost has met a failure.
func (t *tally) failure(minority int) store.Reply {
	if r := t.loss(minority); r.Outcome != store.Pending {
		return r
	}
	return store.Reply{Outcome: store.Failed, Err: t.err()}
}

// err joins what went wrong.
func (t *tally) err() error {
	if len(t.errs) == 0 {
		return errNoAnswer
	}
	return errors.Join(t.errs...)
}
