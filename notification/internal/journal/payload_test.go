package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func FuzzOpen(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[1]", `"x"`, `{"event_id":"1-1"}`, `{"event_id":"1-1","time":"x"}`, `{"event_id":"","time":"2020-01-01T00:00:00Z"}`,
		Seal("1-1", Join(AppendHead(nil, time.Unix(0, 1), "", "", nil), []byte("{}"))),
		Seal("1-1", Redeliver(Join(AppendHead(nil, time.Unix(0, 1), "j", "00-0-0-00", nil), []byte(`{"id":"w"}`)))),
		`{"event_id":"` + strings.Repeat("9", 40) + `-1","time":"2020-01-01T00:00:00Z"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		e, ours := Open(payload, "")
		assert.Equal(t, ours, e != Envelope{})
		assert.Contains(t, payload, e.Stamp)
		if value, sealed := strings.CutPrefix(payload, openEventID+e.ID+`",`); ours {
			require.True(t, sealed)
			marked, ok := Open(Seal(e.ID, Redeliver(value)), "")
			assert.True(t, ok)
			assert.True(t, marked.Redelivered)
			marked.Redelivered = e.Redelivered
			assert.Equal(t, e, marked)
		}
		_ = Channels(payload)
		_, _ = ParsePosition(payload)
	})
}

func FuzzJoinedValuesOpen(f *testing.F) {
	for _, object := range []string{
		`{}`, `{"id":"w"}`, "{ \"id\":\n1 }", `{"journal":"Nature"}`, `{"journal":"a\"b"}`, `{"journal":""}`,
		`{"traceparent":"mine","id":"w"}`, `{"journal":"x","traceparent":"mine"}`, `{"traceparent":"mine","journal":"x"}`,
		`{"event_id":"x","time":"y"}`, `{"redelivered":true}`, `{"redelivered":false,"id":"w"}`, `{"redelivered":"no"}`,
		`{"journal":"x","traceparent":"mine","redelivered":true}`, `{"traceparent":"mine","redelivered":true}`,
	} {
		f.Add(object, int64(1), "", "")
		f.Add(object, int64(0), "tag", "00-0-0-00")
	}
	f.Fuzz(func(t *testing.T, object string, at int64, prefix, traceParent string) {
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(object)) != nil || compact.Bytes()[0] != '{' || strings.ContainsAny(traceParent, `"\`) {
			return
		}
		object = compact.String()
		when := time.Unix(0, at).UTC()
		for _, tag := range []string{
			"", NewKeys(prefix, "", 0).Tag, NewKeys(prefix, "", 1).Tag, NewKeys(prefix, prefix, 1).Tag,
		} {
			value := Join(AppendHead(nil, when, tag, traceParent, []byte(object)), []byte(object))
			for _, again := range []bool{false, true} {
				if again {
					value = Redeliver(value)
					assert.Equal(t, value, Redeliver(value))
				}
				payload := Seal("12-34", value)
				e, ours := Open(payload, tag)
				require.True(t, ours, payload)
				want := Envelope{
					ID: "12-34", Pos: Position{12, 34}, Stamp: when.Format(time.RFC3339Nano), Time: e.Time,
					TraceParent: traceParent, Redelivered: again,
				}
				assert.Equal(t, want, e, payload)
				assert.True(t, when.Equal(e.Time))
				want.Pos, want.Foreign = Position{}, true
				e, ours = Open(payload, tag+"x")
				assert.True(t, ours)
				assert.Equal(t, want, e, "no position in another journal")
				assert.Equal(t, object[1:], payload[len(payload)-len(object)+1:], "the object is as it was")
				if !strings.ContainsFunc(traceParent, func(r rune) bool { return r < ' ' }) {
					assert.True(t, json.Valid([]byte(payload)), payload)
				}
				entry, err := ParseEntry([]any{"12-34", []any{"k", "own.1\n1:c", "v", value}})
				require.NoError(t, err)
				want.Pos, want.Foreign = Position{12, 34}, false
				assert.Equal(t, want, entry.Envelope, "what is in our journal is ours")
				assert.Equal(t, payload, entry.Payload())
			}
		}
	})
}

// A field of the event that is called as one of ours is still what a decoder finds.
func TestOwnFieldsOfTheSameName(t *testing.T) {
	t.Parallel()
	object := []byte(`{"redelivered":true,"id":"w"}`)
	value := Join(AppendHead(nil, time.Unix(1, 0), "", "", object), object)
	e, ours := Open(Seal("1-1", value), "")
	assert.True(t, ours)
	assert.False(t, e.Redelivered, "that is the event's own")
	var decoded struct {
		Redelivered bool   `json:"redelivered"`
		ID          string `json:"id"`
	}
	require.NoError(t, json.Unmarshal([]byte(Seal("1-1", value)), &decoded))
	assert.True(t, decoded.Redelivered)
	assert.Equal(t, "w", decoded.ID)
}

func TestPayloadsOfOthers(t *testing.T) {
	t.Parallel()
	const stamp = `"time":"2020-01-01T00:00:00Z"`
	for _, payload := range []string{
		"", "{}", `{"event_id":"1-1"}`, `{"event_id":"",` + stamp + `}`, `{"event_id":"a\"b",` + stamp + `}`, `{"event_id":"1-1","time":"now"}`,
		`{"event_id":"1-1",` + stamp, `{"event_id":"1-1",` + stamp + ` }`, `{ "event_id":"1-1",` + stamp + `}`,
		`{"event_id":"1-1",` + stamp + `,"redelivered":truest}`,
	} {
		e, ours := Open(payload, "")
		assert.False(t, ours, payload)
		assert.Zero(t, e, payload)
	}
	e, ours := Open(`{"event_id":"order-42",`+stamp+`}`, "")
	assert.True(t, ours)
	assert.Equal(t, "order-42", e.ID)
	assert.True(t, e.Pos.IsZero())
	assert.False(t, e.Foreign)
}

// What is kept of an event must not keep its payload, which may be large.
func TestEnvelopeKeepsNoPayload(t *testing.T) {
	t.Parallel()
	partOf := func(part, whole string) bool {
		p, w := uintptr(unsafe.Pointer(unsafe.StringData(part))), uintptr(unsafe.Pointer(unsafe.StringData(whole)))
		return part != "" && w <= p && p < w+uintptr(len(whole))
	}
	object := []byte(`{"large":"` + strings.Repeat("x", 1<<10) + `"}`)
	value := Join(AppendHead(nil, time.Now(), "", "00-0-0-00", object), object)
	payload := Seal("12-34", value)
	live, ours := Open(payload, "")
	require.True(t, ours)
	recovered, err := ParseEntry([]any{"12-34", []any{"k", "key", "v", value}})
	require.NoError(t, err)
	for _, e := range []Envelope{live, recovered.Envelope} {
		assert.Equal(t, "12-34", e.ID)
		assert.Equal(t, e.Time.Format(time.RFC3339Nano), e.Stamp)
		assert.Equal(t, "00-0-0-00", e.TraceParent)
		for _, kept := range []string{e.ID, e.Stamp, e.TraceParent} {
			assert.False(t, partOf(kept, payload) || partOf(kept, value), kept)
		}
	}
}

func TestDecodingAllocates(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of the whole process
	object := []byte(`{"id":"w","status":"running"}`)
	value := Join(AppendHead(nil, time.Now(), "tag", "00-0-0-00", object), object)
	payload := Seal("12-34", value)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = Open(payload, "tag") }), 1.0, "the copy of its head")
	key := string(AppendKey(nil, "own", 1, []string{"task:events", "task:t", "task:workflow:w"}))
	var row any = []any{"12-34", []any{"k", key, "v", value}}
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = ParseEntry(row) }), 2.0, "and its channels")
}

func TestPositions(t *testing.T) {
	t.Parallel()
	ordered := []Position{{}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, End()}
	for i, p := range ordered {
		back, ok := ParsePosition(p.String())
		assert.True(t, ok)
		assert.Equal(t, p, back)
		for k, q := range ordered {
			assert.Equal(t, i < k, p.Less(q), fmt.Sprint(p, q))
			assert.Equal(t, i < k, p.Compare(q) < 0, fmt.Sprint(p, q))
			assert.Equal(t, i == k, p.Compare(q) == 0, fmt.Sprint(p, q))
		}
	}
	for _, id := range []string{
		"", "-", "1", "1-", "-1", "a-1", "1-a", "1-1-1", "+1-1", "18446744073709551616-0", "0000000000000000000001-1",
	} {
		_, ok := ParsePosition(id)
		assert.False(t, ok, id)
	}
}
