package entry_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/entry"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

// good are texts that are entries.
func good() map[string]entry.Entry {
	return map[string]entry.Entry{
		"cs1 vj- 1 0 0 0a -\n\"x\"": {
			Kind: entry.Value, Codec: 'j', Compression: '-', Version: 1, Write: "0a", Payload: []byte(`"x"`),
		},
		"cs1 a-- 9007199254740991 9007199254740991 9007199254740991 - a=1,b=2\n": {
			Kind: entry.Absent, Codec: '-', Compression: '-', Version: entry.MaxNumber, Until: entry.MaxNumber,
			Fence: entry.MaxNumber, Tags: "a=1,b=2", Payload: []byte{},
		},
		"cs1 sgs 0000000000000012 3 4 w -\n\n \x00\xff": {
			Kind: entry.State, Codec: 'g', Compression: 's', Version: 12, Until: 3, Fence: 4, Write: "w",
			Payload: []byte("\n \x00\xff"),
		},
		"cs1 sj- 5 6+7 8 w -\n": {
			Kind: entry.State, Codec: 'j', Compression: '-', Version: 5, Until: 6, TTL: 7 * time.Millisecond, Fence: 8,
			Write: "w", Payload: []byte{},
		},
		"cs1 d-- 5 6 7 w -\n": {
			Kind: entry.Deleted, Codec: '-', Compression: '-', Version: 5, Until: 6, Fence: 7, Write: "w", Payload: []byte{},
		},
	}
}

// bad are texts that are none.
func bad() []string {
	return []string{
		"", "\n", "cs1", "cs1 ", "cs1 \n", "cs1 vj- 1 0 0 a -", "cs1 vj- 1 0 0 a\n", "cs1 vj- 1 0 0 a - \n", "cs1 vj- 1 0 0 a - b\n",
		"cs1  vj- 1 0 0 a -\n", "cs1 vj- 1  0 a -\n", "cs1 vj 1 0 0 a -\n", "cs1 vj-- 1 0 0 a -\n", "cs1 xj- 1 0 0 a -\n",
		"cs1 Vj- 1 0 0 a -\n", "cs2 vj- 1 0 0 a -\n", " cs1 vj- 1 0 0 a -\n", "cs1 vj- 0 0 0 a -\n", "cs1 vj- -1 0 0 a -\n",
		"cs1 vj- +1 0 0 a -\n", "cs1 vj- 1e3 0 0 a -\n", "cs1 vj- 0x1 0 0 a -\n", "cs1 vj- 1.0 0 0 a -\n", "cs1 vj- 1_0 0 0 a -\n",
		"cs1 vj- 9007199254740992 0 0 a -\n", "cs1 vj- 1 9007199254740992 0 a -\n", "cs1 vj- 1 0 9007199254740992 a -\n",
		"cs1 vj- 00000000000000001 0 0 a -\n", "cs1 vj- 1 0 0 \x01 -\n", "cs1 vj- 1 0 0 a \xff\n", "cs1 v\xff- 1 0 0 a -\n",
		"cs1 vj- 1 5+ 0 a -\n", "cs1 vj- 1 +5 0 a -\n", "cs1 vj- 1 5+1+1 0 a -\n", "cs1 vj- 1 5+x 0 a -\n", "cs1 vj- 1+1 5 0 a -\n",
		"cs1 vj- 1 5+9007199254740992 0 a -\n",
		"cs1 vj- 1 0 0 a\t-\n", "cs1\tvj- 1 0 0 a -\n", "cs1 vj- 1 0 0 a -\r\n", "cs1 vj- 1 0 0 a -\x00\n", "cs1 vj- ١ 0 0 a -\n",
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for raw, want := range good() {
		got, err := entry.Parse([]byte(raw))
		require.NoError(t, err, "%q", raw)
		assert.Equal(t, want, got, "%q", raw)
	}
	for _, raw := range bad() {
		_, err := entry.Parse([]byte(raw))
		require.ErrorIs(t, err, entry.ErrForeign, "%q", raw)
	}
}

// TestScriptsAgree: scripts and Parse take the same texts for entries, and read the same from them.
func TestScriptsAgree(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	texts := bad()
	for raw := range good() {
		texts = append(texts, raw)
	}
	const alphabet = "0123456789\x00\t\n\r -+.0123456789aAdejnsvxz=,\x7f\x80\xff"
	for range 4000 { // mostly small damage to what is an entry
		raw := []byte(texts[len(bad())+rand.N(len(good()))])
		for range 1 + rand.N(3) {
			at := rand.N(len(raw))
			switch rand.N(3) {
			case 0:
				raw[at] = alphabet[rand.N(len(alphabet))]
			case 1:
				raw = append(raw[:at], raw[at+1:]...)
			default:
				raw = append(raw[:at], append([]byte{alphabet[rand.N(len(alphabet))]}, raw[at:]...)...)
			}
		}
		texts = append(texts, string(raw))
	}
	const script = `
		local e = parse(ARGV[1])
		if not e then return 'none' end
		return string.format('%s%s %.0f %.0f+%.0f %.0f %s %s\n',
			e.kind, e.coding, e.version, e.ends, math.min(e.ttl or 0, 9223372036854), e.fence, e.write, e.tags) ..
			string.sub(ARGV[1], e.start)`
	hash, err := client.ScriptLoad(t.Context(), entry.Lua+script).Result()
	require.NoError(t, err)
	pipe := client.Pipeline()
	replies := make([]*redis.Cmd, len(texts))
	for i, raw := range texts {
		replies[i] = pipe.EvalSha(t.Context(), hash, nil, raw)
	}
	_, err = pipe.Exec(t.Context())
	require.NoError(t, err)
	entries := 0
	for i, raw := range texts {
		want := "none"
		if e, err := entry.Parse([]byte(raw)); err == nil {
			entries++
			dash := func(s string) string {
				if s == "" {
					return "-"
				}
				return s
			}
			want = fmt.Sprintf("%s%s%s %d %d+%d %d %s %s\n%s", string(e.Kind), string(e.Codec), string(e.Compression),
				e.Version, e.Until, e.TTL.Milliseconds(), e.Fence, dash(e.Write), dash(e.Tags), e.Payload)
		}
		require.Equal(t, want, replies[i].Val(), "%q", raw)
	}
	assert.Greater(t, entries, 100)
	assert.Less(t, entries, len(texts)-100)
}

func TestTimes(t *testing.T) {
	t.Parallel()
	forever, short := entry.Entry{Version: 1000}, entry.Entry{Version: 1000, Until: 3000}
	assert.True(t, forever.FreshAt(entry.MaxNumber))
	assert.True(t, short.FreshAt(2999))
	assert.False(t, short.FreshAt(3000))
	assert.Equal(t, time.Millisecond, short.AgeAt(2000))
	assert.Zero(t, short.AgeAt(500), "a clock that is behind")
	_, ok := forever.LeftAt(0)
	assert.False(t, ok)
	sliding := entry.Entry{Version: 1000, Until: 3000, TTL: 2 * time.Millisecond}
	assert.False(t, sliding.HalfOver(2000))
	assert.True(t, sliding.HalfOver(2001))
	assert.False(t, sliding.HalfOver(3000), "it is over")
	assert.False(t, short.HalfOver(2999), "its TTL is not known")
	left, ok := short.LeftAt(4000)
	assert.True(t, ok)
	assert.Equal(t, -time.Millisecond, left)
}

func FuzzParse(f *testing.F) {
	for raw := range good() {
		f.Add([]byte(raw))
	}
	for _, raw := range bad() {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := entry.Parse(raw)
		if err != nil {
			require.ErrorIs(t, err, entry.ErrForeign)
			require.Equal(t, entry.Entry{}, e)
			return
		}
		require.Positive(t, e.Version)
		require.LessOrEqual(t, e.Version, int64(entry.MaxNumber))
	})
}

func TestNewID(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 1000 {
		id := entry.NewID()
		assert.Regexp(t, "^[0-9a-f]{16}$", id)
		seen[id] = true
	}
	assert.Len(t, seen, 1000)
}
