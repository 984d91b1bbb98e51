package group

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A turn whose reply does not arrive is repeated, and asks for less. What it took beyond that is for others at once, before what
// came later, as if it had not been taken.
func TestRepeatedTurnsMayTakeLess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)() // makes the group
	stop := b.run(t, func(s *Settings) { s.Concurrency = 0 })
	b.append(t, "k", 5)
	b.eventually(t, "not read", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() == 5 })
	stop()
	set := b.settings(b.client)
	one, other := newOps(&set), newOps(&set)
	take := func(o *ops, number uint64, bytes int) []Event {
		reply, err := o.doTurn(t.Context(), b.client, turnRequest{number: number, room: 4, bytes: bytes, claim: time.Minute})
		require.NoError(t, err)
		return reply.events
	}
	all := take(one, 1, takeBytes)
	require.Len(t, all, 4)
	size := len(all[0].Body) + len(all[1].Body)
	assert.Equal(t, all[:2], take(one, 1, size))
	assert.Equal(t, all[:2], take(one, 1, size), "once more")
	assert.Equal(t, all[2:], take(other, 1, takeBytes)[:2])
	assert.Equal(t, all[:2], take(one, 1, size), "what another one has by now is not touched")
	assert.Equal(t, all[:1], take(one, 1, 1), "one event at least")
	assert.Equal(t, all[1:2], take(other, 2, takeBytes))
	assert.Equal(t, "5", b.client.HGet(t.Context(), b.k.progress, "held").Val())
}

// A member asks for less after a reply that did not arrive in time, and for a little more where that is too little for two events.
func TestHowMuchMembersTake(t *testing.T) {
	t.Parallel()
	m := &member{bytes: takeBytes}
	events := turnReply{events: []Event{{Body: "abc"}}}
	m.learn(turnReply{}, errFailed)
	m.learn(events, nil)
	assert.Equal(t, takeBytes, m.bytes)
	m.learn(turnReply{}, context.DeadlineExceeded)
	assert.Equal(t, takeBytes/4, m.bytes)
	m.learn(events, nil)
	assert.Equal(t, takeBytes/4, m.bytes, "a small one says nothing")
	for range 20 {
		m.learn(turnReply{}, context.DeadlineExceeded)
	}
	assert.Equal(t, 1, m.bytes)
	for range 20 {
		m.learn(events, nil)
	}
	assert.Equal(t, 6, m.bytes)
	m.bytes = takeBytes - 1
	m.learn(turnReply{events: []Event{{Body: string(make([]byte, takeBytes))}}}, nil)
	assert.Equal(t, takeBytes, m.bytes)
}
