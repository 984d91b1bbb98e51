package quorum

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/lock/internal/store"
)

func TestSilenceOfAServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d debt
		<-time.After(time.Minute)
		assert.Zero(t, d.silence(), "it owes nothing")
		d.add()
		<-time.After(time.Second)
		d.add()
		assert.Equal(t, time.Second, d.silence())
		d.settle(false, false)
		assert.Equal(t, time.Second, d.silence(), "a failure is no answer")
		d.settle(true, true)
		<-time.After(time.Millisecond)
		assert.Equal(t, time.Millisecond, d.silence(), "it owes another one, but answers")
		d.settle(true, false)
		assert.Zero(t, d.silence())
		<-time.After(time.Minute)
		d.add()
		assert.Zero(t, d.silence(), "it was not asked meanwhile")
	})
}

// TestWhatWasNotSentIsNoAnswer: a server that is not known to have the lock was not asked.
func TestWhatWasNotSentIsNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := new(node)
		n.debt.add()
		<-time.After(time.Second)
		for _, c := range []struct {
			outcome store.Outcome
			silence time.Duration
		}{{store.Unset, time.Second}, {store.Failed, time.Second}, {store.Absent, 0}} {
			v := &vote{
				nodes: nodes{n}, verb: extending, replies: make([]store.Reply, 1), answered: []chan struct{}{make(chan struct{})},
				open: 2, cancel: func() {},
			}
			v.record(n, store.Reply{Outcome: c.outcome, Err: errNoAnswer})
			assert.Equal(t, c.silence, n.debt.silence(), "%v", c.outcome)
		}
	})
}
