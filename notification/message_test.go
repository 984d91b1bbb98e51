package notification

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func FuzzPayload(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[1]", `"x"`, `{"event_id":"1-1"}`, `{"event_id":"1-1","time":"x"}`,
		seal("1-1", join(appendFields(nil, time.Unix(0, 1), "", "", nil), []byte("{}"))),
		seal("1-1", join(appendFields(nil, time.Unix(0, 1), "j", "00-0-0-00", nil), []byte(`{"id":"w"}`))),
		`{"event_id":"` + strings.Repeat("9", 40) + `-1","time":"2020-01-01T00:00:00Z"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		e, ours := openEnvelope(payload, "")
		if ours && !strings.Contains(payload, e.stamp) {
			t.Errorf("stamp %q is not from the payload", e.stamp)
		}
		m := newMessage("c", payload, e, ours)
		event, err := Decode[WorkflowEvent](m)
		if err == nil && ours && json.Valid([]byte(payload)) && event.EventID == "" {
			t.Errorf("no event ID in %q", payload)
		}
		if err != nil {
			var wrong *DecodeError
			require.ErrorAs(t, err, &wrong)
			assert.Equal(t, "c", wrong.Channel)
			assert.Zero(t, event)
		}
		_, _ = Decode[map[string]any](m)
		_, _ = Decode[[]int](m)
		_, _ = parseStatus(payload)
		_ = openKey(payload)
		_, _ = parseTraceParent(payload)
		_, _ = parsePosition(payload)
	})
}

func FuzzSealedPayloadOpens(f *testing.F) {
	for _, object := range []string{
		`{}`, `{"id":"w"}`, "{ \"id\":\n1 }", `{"journal":"Nature"}`, `{"journal":"a\"b"}`, `{"journal":""}`, `{"traceparent":"mine","id":"w"}`,
		`{"journal":"x","traceparent":"mine"}`, `{"traceparent":"mine","journal":"x"}`, `{"event_id":"x","time":"y"}`,
	} {
		f.Add(object, int64(1), "", "")
		f.Add(object, int64(0), "tag", "00-0-0-00")
	}
	f.Fuzz(func(t *testing.T, object string, at int64, prefix, traceParent string) {
		marshalled, err := json.Marshal(json.RawMessage(object))
		if err != nil || marshalled[0] != '{' || strings.Contains(traceParent, `"`) {
			return
		}
		when := time.Unix(0, at).UTC()
		for _, tag := range []string{"", (&settings{keyPrefix: prefix}).keys(0).tag, (&settings{keyPrefix: prefix}).keys(1).tag} {
			payload := seal("12-34", join(appendFields([]byte{}, when, tag, traceParent, marshalled), marshalled))
			e, ours := openEnvelope(payload, tag)
			require.True(t, ours, payload)
			assert.Equal(t, "12-34", e.id)
			assert.Equal(t, position{12, 34}, e.pos, payload)
			assert.True(t, when.Equal(e.time))
			assert.Equal(t, traceParent, e.traceParent, payload)
			e, ours = openEnvelope(payload, tag+"x")
			assert.True(t, ours)
			assert.True(t, e.pos.isZero(), "no place in another journal")
			written := marshalled[1:]
			assert.Equal(t, string(written), payload[len(payload)-len(written):], "the object is as it was")
			if traceParent == "" {
				assert.True(t, json.Valid([]byte(payload)), payload)
			}
		}
	})
}

// What is kept of an event must not keep its payload, which may be large.
func TestEnvelopeKeepsNoPayload(t *testing.T) {
	t.Parallel()
	partOf := func(part, whole string) bool {
		p, w := uintptr(unsafe.Pointer(unsafe.StringData(part))), uintptr(unsafe.Pointer(unsafe.StringData(whole)))
		return part != "" && w <= p && p < w+uintptr(len(whole))
	}
	object := []byte(`{"large":"` + strings.Repeat("x", 1<<10) + `"}`)
	value := join(appendFields(nil, time.Now(), "", "00-0-0-00", object), object)
	payload := seal("12-34", value)
	live, ours := openEnvelope(payload, "")
	require.True(t, ours)
	recovered, err := parseEntry([]any{"12-34", []any{"k", "key", "v", value}})
	require.NoError(t, err)
	for _, e := range []envelope{live, recovered.envelope} {
		assert.Equal(t, "12-34", e.id)
		assert.Equal(t, e.time.Format(time.RFC3339Nano), e.stamp)
		assert.Equal(t, "00-0-0-00", e.traceParent)
		for _, kept := range []string{e.id, e.stamp, e.traceParent} {
			assert.False(t, partOf(kept, payload) || partOf(kept, value), kept)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a", "b\n3:c")
	f.Fuzz(func(t *testing.T, a, b string) {
		channels := []string{a, b, "task:1"}
		key := string(appendKey(nil, "own", 1, channels))
		assert.Equal(t, channels, openKey(key))
		assert.Equal(t, "own.1", ownID(key))
	})
}

func TestPositions(t *testing.T) {
	t.Parallel()
	ordered := []position{{}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, lastPosition()}
	for i, p := range ordered {
		back, ok := parsePosition(p.String())
		assert.True(t, ok)
		assert.Equal(t, p, back)
		for k, q := range ordered {
			assert.Equal(t, i < k, p.less(q), fmt.Sprint(p, q))
		}
	}
	for _, id := range []string{"", "1", "-", "1-", "-1", "a-b", "1-1-1", "99999999999999999999-0", "+1-0"} {
		_, ok := parsePosition(id)
		assert.False(t, ok, id)
	}
}

func TestSeenForgetsTheOldest(t *testing.T) {
	t.Parallel()
	s := newSeen()
	assert.True(t, s.oldest().isZero())
	at := func(ms uint64) place { return place{position{ms, 0}, "t"} }
	for i := range uint64(seenSize + 10) {
		e := envelope{pos: position{i + 1, 0}, stamp: "t"}
		s.add(e, "x")
		s.add(e, "") // once more changes nothing
	}
	assert.Equal(t, position{11, 0}, s.oldest())
	places := s.places()
	assert.Len(t, places, seenSize)
	assert.True(t, places[at(11)])
	assert.True(t, places[at(seenSize+10)])
	assert.False(t, places[at(10)])
	assert.False(t, places[place{position{500, 0}, "another history"}])
}

func TestEventsRepeatedAfterAFailover(t *testing.T) {
	t.Parallel()
	s := newSeen()
	at := func(ms uint64) envelope { return envelope{pos: position{ms, 0}, stamp: "t"} }
	s.add(at(1), "a")
	assert.Zero(t, s.repeats(at(2), "a"), "in one history every event is a new one")
	s.historyChanged(time.Now())
	assert.EqualValues(t, 1, s.repeats(at(2), "a"))
	assert.Zero(t, s.repeats(at(1), "a"), "this is the one that passed")
	assert.Zero(t, s.repeats(at(2), "b"))
	s.add(at(3), "c")
	assert.Zero(t, s.repeats(at(4), "c"), "both are in the new history")
	s.historyChanged(time.Now().Add(-2 * doubtful))
	assert.Zero(t, s.repeats(at(2), "a"), "long ago")
	assert.EqualValues(t, 2, s.until(at(3).pos))
	assert.EqualValues(t, 1, s.until(at(2).pos))
	assert.Zero(t, s.until(position{}))
	for i := range uint64(seenSize) {
		s.add(at(10+i), "")
	}
	assert.Zero(t, s.until(at(9).pos), "forgotten")
}

func TestWhatASubscriptionHasAfterFailovers(t *testing.T) {
	t.Parallel()
	remembered := newSeen()
	for i := range uint64(10) {
		remembered.add(envelope{pos: position{i + 1, 0}, stamp: "t"}, "x")
	}
	s := &Subscription{}
	has := func() (n int) {
		for i := range uint64(20) {
			if s.has(i) {
				n++
			}
		}
		return n
	}
	s.historyChanged(remembered)
	assert.Zero(t, has(), "it has not begun")
	s.state, s.last = replaying, position{4, 0}
	s.historyChanged(remembered)
	assert.Equal(t, 4, has(), "it is behind")
	s.state = live
	s.historyChanged(remembered)
	assert.Equal(t, 10, has())
	s.state = replaying
	s.rewind(position{2, 0})
	s.historyChanged(remembered)
	assert.Equal(t, 10, has(), "another failover takes nothing from it")
}

func TestIdentityContinues(t *testing.T) {
	t.Parallel()
	const none = "0000000000000000000000000000000000000000"
	was := identity{origin: "o", run: "r", repl: "a", before: none, role: "master"}
	assert.True(t, was.continues(was))
	assert.True(t, was.continues(identity{"o", "other", "a", none, "master"}), "a replica goes on with its master's history")
	assert.True(t, was.continues(identity{"o", "r", "b", none, "master"}), "the first replica came")
	assert.False(t, was.continues(identity{"o", "r", "b", "x", "master"}), "it was a replica in between")
	assert.False(t, was.continues(identity{"o", "other", "b", "a", "master"}), "a replica took over, perhaps without the tail")
	assert.False(t, was.continues(identity{"o", "other", "b", none, "master"}), "a new process")
	assert.False(t, was.continues(identity{"o", "r", "b", none, "slave"}), "another master's data came in place of its own")
	assert.False(t, was.continues(identity{"o", "r", "a", none, "slave"}), "and this is how that begins")
	assert.True(t, was.continues(identity{"o", "other", "a", none, "slave"}), "a replica of the master is read")
	replica := identity{"o", "r", "a", none, "slave"}
	assert.True(t, replica.continues(replica))
	assert.True(t, identity{origin: "o"}.continues(identity{origin: "o"}), "nothing is known")
}

func TestGapsMerge(t *testing.T) {
	t.Parallel()
	merged := Gap{Reason: GapFailover, After: "1-0", Missed: 1}.merge(Gap{Reason: GapOverflow, After: "2-0", Before: "3-0", Missed: 2})
	assert.Equal(t, Gap{Reason: GapFailover, After: "1-0", Before: "3-0", Missed: 3}, merged)
	for _, tc := range []struct{ earlier, later, want GapReason }{
		{GapWiped, GapForeign, GapWiped},
		{GapForeign, GapWiped, GapWiped},
		{GapForeign, GapOverflow, GapForeign},
		{GapOverflow, GapForeign, GapForeign},
		{GapFailover, GapTrimmed, GapTrimmed},
	} {
		assert.Equal(t, tc.want, Gap{Reason: tc.earlier}.merge(Gap{Reason: tc.later}).Reason, "%s, %s", tc.earlier, tc.later)
	}
}

func TestPatternsThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	for pattern, valid := range map[string]bool{
		"a": true, "a*": true, "[ab]": true, `\*`: true, `[\]]`: true, "a]": true, "[]": true, "[^a]*": true,
		"": false, "[": false, "a[b": false, `\`: false, `[\]`: false, `a\`: false,
	} {
		assert.Equal(t, valid, validatePattern(pattern) == nil, pattern)
	}
	assert.True(t, slices.ContainsFunc([]string{"*", "?", "[", `\`}, isGlob))
}
