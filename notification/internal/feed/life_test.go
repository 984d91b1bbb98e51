package feed

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLife(t *testing.T) {
	t.Parallel()
	var now time.Duration
	l := &life{now: func() int64 { return int64(now) }, deadline: 9 * time.Second, interval: 3 * time.Second}
	at := func(seconds int) { now = time.Duration(seconds) * time.Second }
	assert.Equal(t, 9*time.Second, l.left())
	at(8)
	l.arrived() // which is no heartbeat
	assert.Equal(t, time.Second, l.left())
	at(9)
	assert.Zero(t, l.left(), "dead")

	l.sent.Store(1)
	assert.Equal(t, 8*time.Second, l.left(), "the heartbeat is behind what arrives")
	l.returned(1)
	at(10)
	assert.Equal(t, 8*time.Second, l.left())
	at(19)
	assert.Negative(t, l.left(), "what arrives does not count if the server has accepted no heartbeat since")

	l.returned(1)
	l.enter()
	at(60)
	assert.Equal(t, l.deadline, l.left(), "nothing is read while the sink is at work")
	l.leave()
	at(61)
	assert.Equal(t, 8*time.Second, l.left(), "and what came meanwhile is still to be read")
	at(64)
	l.enter()
	l.leave()
	assert.Equal(t, 5*time.Second, l.left(), "a sink that is quick changes nothing")
	assert.Equal(t, 3*time.Second, l.next(l.left()))
}
