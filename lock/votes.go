package lock

import (
	"errors"
	"fmt"
	"time"
)

// outcome is what a node has answered.
type outcome uint8

const (
	pending outcome = iota
	granted         // it did what was asked
	missing         // the key is gone
	refused         // somebody else holds the lock there
	failed          // nobody knows whether it did what was asked
)

// vote is the answer of one node.
type vote struct {
	outcome outcome
	token   int64
	wait    time.Duration // remaining TTL of the other holder
	place   placeReply    // for those who wait
	err     error
	// repeated says that the command was sent more than once, and an earlier one may be under way still.
	repeated bool
}

// tally is what the answers add up to.
type tally struct {
	granted, missing, refused, failed int
	token                             int64         // the largest among those who granted
	stored                            int           // how many of those have that token
	wait                              time.Duration // the longest wait among those who refused
	errs                              []error
	repeated                          bool // some commands were sent more than once
}

func count(votes []vote) tally {
	var t tally
	for i, v := range votes {
		t.repeated = t.repeated || v.repeated
		switch v.outcome {
		case granted:
			t.granted++
			if v.token > t.token {
				t.token, t.stored = v.token, 0
			}
			if v.token == t.token {
				t.stored++
			}
		case missing:
			t.missing++
		case refused:
			t.refused++
			t.wait = max(t.wait, v.wait)
		case failed:
			t.failed++
			if len(votes) > 1 {
				t.errs = append(t.errs, fmt.Errorf("node %d: %w", i, v.err))
			} else {
				t.errs = append(t.errs, v.err)
			}
		case pending:
		}
	}
	return t
}

// split reports whether a majority has answered, and not decided: somebody else is there on some nodes.
func (t *tally) split(quorum int) bool {
	return t.refused > 0 && t.granted < quorum && t.granted+t.refused >= quorum
}

// err joins what went wrong.
func (t *tally) err() error {
	if len(t.errs) == 1 {
		return t.errs[0]
	}
	return errors.Join(t.errs...)
}
