package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// sweep reads a journal to its end, and checks that nothing is missing.
func sweep(t *testing.T, r *Reader, on Server) (entries []Entry, parts [][]Entry) {
	t.Helper()
	var at Position
	for {
		r.last = time.Now().Add(time.Hour) // a test may take its time
		part, err := r.After(t.Context(), on, at)
		require.NoError(t, err)
		require.True(t, part.Follows(at))
		parts = append(parts, part.Entries)
		entries = append(entries, part.Entries...)
		if !part.More {
			return entries, parts
		}
		at = part.Entries[len(part.Entries)-1].Pos
	}
}

func bytesOf(entries []Entry) (bytes uint64) {
	for i := range entries {
		bytes += entries[i].Size
	}
	return bytes
}

func TestReadingInParts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		t.Helper()
		j, on, w := setup(client)
		var written []Position
		for range 1300 {
			written = append(written, w.append(t, 10))
		}
		status := look(t, j, on, Known{}).Status
		first := j.NewReader(0)
		entries, parts := sweep(t, first, on)
		count, careful := first.count(written[1299])
		assert.Equal(t, carefulEntries, count)
		assert.True(t, careful, "what follows by the time of the next sweep may be large")
		require.Len(t, entries, len(written))
		for i := range entries {
			assert.Equal(t, written[i], entries[i].Pos)
			assert.Equal(t, []string{"c"}, entries[i].Channels)
			assert.Contains(t, entries[i].Payload(), fmt.Sprintf(`"n":%d,`, i+1))
		}
		var sizes []int
		for _, part := range parts {
			sizes = append(sizes, len(part))
		}
		assert.Equal(t, []int{carefulEntries, maxEntries, maxEntries, 1300 - carefulEntries - 2*maxEntries}, sizes)
		assert.Equal(t, status.Offset, bytesOf(entries))

		r := j.NewReader(0)
		part, err := r.From(t.Context(), on, written[1298])
		require.NoError(t, err)
		assert.Equal(t, written[1298], part.Entries[0].Pos, "with the entry itself")
		assert.True(t, part.Follows(written[1298]))
		assert.Equal(t, status.Epoch, part.Epoch)
		assert.Equal(t, status.Offset, part.Offset)
		part, err = r.After(t.Context(), on, written[1299])
		require.NoError(t, err)
		assert.Empty(t, part.Entries)
		assert.True(t, part.Follows(written[1299]), "it is the last one")
		for _, end := range []Position{End(), {End().Ms, 0}} {
			part, err = r.After(t.Context(), on, end)
			require.NoError(t, err)
			assert.Empty(t, part.Entries)
			assert.False(t, part.Follows(end))
		}

		require.NoError(t, client.XTrimMaxLen(t.Context(), j.keys.Journal, 10).Err())
		part, err = r.After(t.Context(), on, written[1288])
		require.NoError(t, err)
		assert.False(t, part.Follows(written[1288]))
		part, err = r.After(t.Context(), on, written[1289])
		require.NoError(t, err)
		assert.True(t, part.Follows(written[1289]), "nothing behind it was trimmed")
		require.NoError(t, client.Del(t.Context(), j.keys.Journal, j.keys.State).Err())
		part, err = r.From(t.Context(), on, Position{})
		require.NoError(t, err)
		assert.Equal(t, Part{Entries: []Entry{}}, part)
	})
}

// No part keeps the server busy for long, wherever the large events are.
func TestPartsAreBoundedByBytes(t *testing.T) { //nolint:tparallel // one server has room for one of them
	t.Parallel()
	client := redistest.Start(t).Client(t)
	const large = 1 << 20
	for name, sizes := range map[string]func(i int) int{ //nolint:paralleltest // as above
		"large":            func(int) int { return large },
		"large at the end": func(i int) int { return 10 + large*(i/1000) }, // more than a part may have
		"mixed":            func(i int) int { return 10 + large*(i%11/10) },
		"medium":           func(int) int { return 20_000 },
		"very large":       func(int) int { return 8 * large },
	} {
		t.Run(name, func(t *testing.T) {
			keys := NewKeys(name, "", 0)
			j, on, w := New(keys), Server{Client: client}, &writer{client: client, keys: keys}
			count, largest := 0, 0
			for total := 0; total < 40*large; count++ {
				w.append(t, sizes(count))
				total += sizes(count)
				largest = max(largest, sizes(count))
			}
			entries, parts := sweep(t, j.NewReader(0), on)
			assert.Len(t, entries, count)
			for i, part := range parts {
				assert.LessOrEqual(t, bytesOf(part), uint64(max(carefulBytes, partBytes+largest)+1000), "part %d", i)
				if name == "large" && i > 0 {
					assert.LessOrEqual(t, len(part), 1, "how large they are is known now")
				}
				if name == "medium" && i > 0 && i < len(parts)-1 {
					assert.GreaterOrEqual(t, len(part), carefulEntries)
					assert.LessOrEqual(t, bytesOf(part), uint64(partBytes))
				}
			}
			require.NoError(t, client.FlushAll(t.Context()).Err())
		})
	}
}

// What was appended after the end of the journal was seen may be larger than all that was before it.
func TestWhatIsKnownOfTheEndGrowsOld(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	j, on, w := setup(client)
	for range maxEntries {
		w.append(t, 10)
	}
	r := j.NewReader(0)
	part, err := r.From(t.Context(), on, Position{})
	require.NoError(t, err)
	at := part.Entries[0].Pos
	r.last = time.Now().Add(time.Hour)
	count, careful := r.count(at)
	assert.Equal(t, maxEntries, count)
	assert.False(t, careful, "it cannot be much by now")
	for range 12 {
		w.append(t, 1<<20)
	}
	r.last = time.Now().Add(-carefulAfter)
	_, careful = r.count(at)
	assert.True(t, careful)
	for {
		part, err = r.After(t.Context(), on, at)
		require.NoError(t, err)
		assert.LessOrEqual(t, bytesOf(part.Entries), uint64(carefulBytes))
		if !part.More {
			break
		}
		at = part.Entries[len(part.Entries)-1].Pos
		r.last = time.Now().Add(-carefulAfter)
	}
}

// slow is a connection on which a reply with too many entries does not arrive in time.
type slow struct {
	redistest.Hook
	limit int
	asked []int
}

func (s *slow) ask(count any) error {
	asked, _ := count.(int)
	s.asked = append(s.asked, asked)
	if asked > s.limit {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (s *slow) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); cmd.Name() == "evalsha" {
			if err := s.ask(args[len(args)-2]); err != nil { // of few.lua
				return err
			}
		}
		return next(ctx, cmd)
	}
}

func (s *slow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() != "xrange" {
				continue
			}
			if err := s.ask(cmd.Args()[len(cmd.Args())-1]); err != nil {
				return err
			}
		}
		return next(ctx, cmds)
	}
}

func TestPartsThatDoNotArriveAreAskedForSmaller(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	j, on, w := setup(client)
	for range 100 {
		w.append(t, 10)
	}
	line := &slow{limit: 10}
	client.AddHook(line)
	r := j.NewReader(time.Hour)
	var at Position
	count := 0
	for {
		r.last = time.Now().Add(time.Hour) // a test may take its time
		part, err := r.After(t.Context(), on, at)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NotErrorIs(t, err, ErrUnreadable)
			continue
		}
		assert.True(t, part.Follows(at))
		count += len(part.Entries)
		if !part.More {
			break
		}
		at = part.Entries[len(part.Entries)-1].Pos
	}
	assert.Equal(t, 100, count)
	assert.Equal(t, []int{carefulEntries, carefulEntries / 4, 10, 12, 3, 4, 5, 6, 7, 8, 10, 12, 3}, line.asked[:13])
}

func TestUnreadableEntries(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	j, on, w := setup(client)
	p := w.append(t, 10)
	last := w.append(t, 10)
	line := &slow{}
	client.AddHook(line)
	r := j.NewReader(0)
	for range 4 {
		_, err := r.After(t.Context(), on, p)
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrUnreadable, "there is hope")
	}
	_, err := r.After(t.Context(), on, p)
	require.ErrorIs(t, err, ErrUnreadable)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Equal(t, []int{32, 8, 1, 1, 1}, line.asked)
	_, err = r.After(t.Context(), on, last)
	require.NotErrorIs(t, err, ErrUnreadable, "another one begins from the start")
	line.limit = 1
	part, err := r.After(t.Context(), on, p)
	for err != nil {
		part, err = r.After(t.Context(), on, p)
	}
	assert.Equal(t, last, part.Entries[0].Pos)

	patient := j.NewReader(time.Hour)
	line.limit = 0
	for range 10 {
		_, err = patient.After(t.Context(), on, p)
		require.NotErrorIs(t, err, ErrUnreadable, "it has not taken long yet")
	}
}

// The end of the caller's own time says nothing about the size of a part, and neither does a server that is not there.
func TestOtherErrorsDoNotMakePartsSmaller(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.Options()
	options.ContextTimeoutEnabled, options.MaxRetries = true, -1
	client := redis.NewClient(options)
	defer client.Close()
	j, on, w := setup(client)
	w.append(t, 10)
	r := j.NewReader(0)
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.From(ctx, on, Position{})
	require.Error(t, err)
	server.Kill()
	for range minUnread + 1 {
		_, err = r.From(t.Context(), on, Position{})
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrUnreadable)
	}
	assert.Equal(t, maxEntries, r.most)
	server.Restart()
	on.Client = server.Client(t) // the other one needs a moment to notice
	require.NoError(t, on.Client.Set(t.Context(), j.keys.Journal, "x", 0).Err())
	_, err = r.From(t.Context(), on, Position{})
	assert.True(t, redis.HasErrorPrefix(err, "WRONGTYPE"), err)
	assert.Equal(t, maxEntries, r.most)
}

// A client without a time-out of its own waits for as long as the reader says.
func TestReadingWithoutReadTimeout(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.Options()
	options.ContextTimeoutEnabled, options.ReadTimeout, options.MaxRetries = true, -1, -1
	client := redis.NewClient(options)
	defer client.Close()
	j, on, w := setup(client)
	w.append(t, 10)
	r := j.NewReader(0)
	server.Stop()
	_, err := r.From(t.Context(), on, Position{})
	require.Error(t, err)
	assert.Equal(t, carefulEntries/4, r.most, "it was its own patience that ended")
	server.Continue()
}

// A stalled server takes several read time-outs, after which all is as before.
func TestReadingFromAServerThatStalls(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.Options()
	options.ReadTimeout, options.MaxRetries = 50*time.Millisecond, -1
	client := redis.NewClient(options)
	defer client.Close()
	j, on, w := setup(client)
	for range 100 {
		w.append(t, 10)
	}
	r := j.NewReader(time.Hour)
	_, err := r.From(t.Context(), on, Position{})
	require.NoError(t, err)
	server.Stop()
	for range 3 {
		_, err = r.From(t.Context(), on, Position{})
		require.Error(t, err)
	}
	assert.Less(t, r.most, carefulEntries)
	server.Continue()
	require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, 20*time.Second, 10*time.Millisecond)
	entries, _ := sweep(t, r, on)
	assert.Len(t, entries, 100)
}

// A reader that goes on while a journal is written and trimmed notices each time that it was too slow, and only then.
func TestReadingBesideAWriter(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	j, on, w := setup(client)
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // a test that can be repeated
	var written, read []Position
	var at Position
	r, missed := j.NewReader(0), 0
	for range 300 {
		for range random.IntN(6) {
			written = append(written, w.append(t, random.IntN(50)))
		}
		if random.IntN(3) == 0 {
			require.NoError(t, client.XTrimMaxLen(t.Context(), j.keys.Journal, random.Int64N(8)).Err())
		}
		if random.IntN(2) == 0 {
			continue
		}
		part, err := r.After(t.Context(), on, at)
		require.NoError(t, err)
		behind := slices.Index(written, at) + 1 // the first one not read
		gone := len(written)-behind != len(part.Entries)
		require.Equal(t, gone, !part.Follows(at))
		if gone {
			missed++
		}
		for i := range part.Entries {
			read = append(read, part.Entries[i].Pos)
		}
		if len(written) > 0 {
			at = written[len(written)-1]
		}
	}
	assert.Positive(t, missed)
	assert.NotEmpty(t, read)
	assert.True(t, slices.IsSortedFunc(read, Position.Compare))
}

func BenchmarkRead(b *testing.B) {
	client := redistest.Start(b).Client(b)
	keys := NewKeys("t:", "", 0)
	j, on := New(keys), Server{Client: client}
	object := []byte(`{"id":"w","status":"running","data":{"a":1}}`)
	offset := 0
	for i := range 10_000 {
		key := string(AppendKey(nil, "ownid", uint64(i), []string{"task:events", "task:t"}))
		value := Join(AppendHead(nil, time.Now(), "", "", object), object)
		offset += len(key) + len(value) + EntryOverhead
		id := Position{1, uint64(offset)}.String()
		require.NoError(b, client.XAdd(b.Context(), &redis.XAddArgs{Stream: keys.Journal, ID: id, Values: []any{"k", key, "v", value}}).Err())
	}
	b.ReportAllocs()
	for b.Loop() {
		r := j.NewReader(0)
		var at Position
		for {
			part, err := r.After(b.Context(), on, at)
			require.NoError(b, err)
			if !part.More {
				break
			}
			at = part.Entries[len(part.Entries)-1].Pos
		}
	}
}
