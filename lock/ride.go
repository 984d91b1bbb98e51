package lock

import "sync/atomic"

// ride is a call that waits for its result. It ends once: with the reply, with its caller leaving, or with the batcher
// giving it up.
type ride struct {
	call   call
	round  *round
	result result // of whoever carries it, and of the caller once it has arrived
	state  atomic.Uint32
	// done gets the one message that the ride has ended, unless its caller has ended it.
	done chan struct{}
}

// States of a ride.
const (
	riding uint32 = iota
	arrived
	left // its fate is unknown
)

func (b *batcher) ride(r *round, c call) *ride {
	done, ok := b.channels.Get().(chan struct{})
	if !ok {
		done = make(chan struct{}, 1)
	}
	return &ride{call: c, round: r, done: done}
}

// wait returns when the command was answered or nobody waits for that any longer; then its fate is unknown. That the
// round's time is up, or the manager closed, is the batcher's business: to watch over so many things takes its time.
func (r *ride) wait(b *batcher) (any, error) {
	told := true
	if r.round.quit == nil && r.round.hurry == nil {
		<-r.done
	} else {
		select {
		case <-r.done:
		case <-r.round.quit:
			told = false
		case <-r.round.hurry:
			told = false
		}
	}
	if !told && !r.state.CompareAndSwap(riding, left) {
		<-r.done // it ended at the same time
	}
	b.channels.Put(r.done)
	if r.state.Load() == left {
		return nil, errNoAnswer
	}
	return r.result.reply, r.result.err
}

// arrive tells the caller that the command was answered, or its round if nobody waits any longer.
func (r *ride) arrive(n *node) {
	if r.state.CompareAndSwap(riding, arrived) {
		r.done <- struct{}{}
		return
	}
	r.round.answeredLate(n)
}

// giveUp ends the caller's waiting.
func (r *ride) giveUp() {
	if r.state.CompareAndSwap(riding, left) {
		r.done <- struct{}{}
	}
}
