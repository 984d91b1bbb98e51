package feed

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// server is a model of what Redis keeps of one connection. Names that begin with "bad" are refused.
type server struct {
	has     map[Name]bool
	waiting []command // written and not executed
}

// TestTalk: whatever comes and goes, and however late Redis answers, in the end it has what is wanted, and each name that
// was added has been answered for.
func TestTalk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible on purpose
		n := newNames(0)
		wanted := map[Name]bool{}
		owed := map[Name]bool{}   // to be confirmed or refused
		for range 1 + r.IntN(3) { // sessions
			s := &Session{}
			n.begin(s)
			redis := server{has: map[Name]bool{}}
			for name := range wanted {
				owed[name] = true
			}
			for range r.IntN(300) {
				change(t, r, n, s, &redis, wanted, owed)
			}
			for n.expire(); redis.turn(t, n, s, wanted, owed); n.expire() {
				continue
			}
			assert.Equal(t, wanted, redis.has, "seed %d", seed)
			assert.Empty(t, owed, "seed %d", seed)
			assert.True(t, n.settled(s), "seed %d", seed)
			assert.Zero(t, s.talk.weight, "seed %d", seed)
			assert.Empty(t, n.idle)
			assert.Len(t, n.all, len(wanted))
			n.finish(s)
		}
		if t.Failed() {
			return
		}
	}
}

// change does something at random.
func change(t *testing.T, r *rand.Rand, n *names, s *Session, redis *server, wanted, owed map[Name]bool) {
	t.Helper()
	text := fmt.Sprintf("name%d", r.IntN(20))
	if r.IntN(10) == 0 {
		text = fmt.Sprintf("bad%d", r.IntN(3))
	}
	name := Name{text, r.IntN(3) == 0}
	switch r.IntN(6) {
	case 0, 1:
		n.add([]Name{name})
		wanted[name], owed[name] = true, true
	case 2:
		n.remove([]Name{name})
		delete(wanted, name)
		delete(owed, name)
	case 3:
		n.expire()
	default:
		redis.turn(t, n, s, wanted, owed)
	}
}

// turn lets the feed write one command, or the server execute one. It reports whether anything happened.
func (redis *server) turn(t *testing.T, n *names, s *Session, wanted, owed map[Name]bool) bool {
	t.Helper()
	for _, name := range n.repeats() {
		delete(owed, name)
	}
	if _, c, ok := n.take(); ok {
		redis.waiting = append(redis.waiting, c)
		return true
	}
	if len(redis.waiting) == 0 {
		return false
	}
	c := redis.waiting[0]
	redis.waiting = redis.waiting[1:]
	entries := append([]*entry(nil), c.entries...)
	for _, e := range entries {
		if !c.drop && strings.HasPrefix(e.name.Text, "bad") {
			_, forgotten, ok := n.refused(s)
			require.True(t, ok)
			if forgotten != nil {
				if n.all[forgotten.name] == nil {
					delete(owed, forgotten.name)
					delete(wanted, forgotten.name)
				}
			}
			return true
		}
	}
	for _, e := range entries {
		if c.drop {
			delete(redis.has, e.name)
		} else {
			redis.has[e.name] = true
		}
		confirmed, err := n.answered(s, c.verb, e.name.Text)
		require.NoError(t, err)
		if confirmed != nil {
			delete(owed, confirmed.name)
		}
	}
	return true
}

func TestAnswerThatFitsNoQuestion(t *testing.T) {
	t.Parallel()
	n, s := newNames(0), &Session{}
	n.begin(s)
	_, err := n.answered(s, "subscribe", "a")
	require.Error(t, err)
	n.add([]Name{{Text: "a"}})
	_, _, ok := n.take()
	require.True(t, ok)
	_, err = n.answered(s, "subscribe", "b")
	require.Error(t, err)
	_, err = n.answered(s, "psubscribe", "a")
	require.Error(t, err)
	_, err = n.answered(s, "subscribe", "a")
	require.NoError(t, err)
	_, _, ok = n.refused(s)
	assert.False(t, ok)
}
