package journal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// writer appends to a journal as the publish scripts do.
type writer struct {
	client redis.UniversalClient
	keys   Keys
	number uint64
}

// append appends one event with a payload of about so many bytes, and returns its position.
func (w *writer) append(t *testing.T, bytes int) Position {
	t.Helper()
	w.number++
	key := string(AppendKey(nil, "own", w.number, []string{"c"}))
	object := []byte(fmt.Sprintf(`{"n":%d,"fill":"`, w.number) + strings.Repeat("x", bytes) + `"}`)
	value := Join(AppendHead(nil, time.Now(), "", "", object), object)
	size := int64(len(key) + len(value) + EntryOverhead)
	offset, err := w.client.HIncrBy(t.Context(), w.keys.State, "offset", size).Result()
	require.NoError(t, err)
	p := Position{Ms: 1_000_000 + w.number, Offset: uint64(offset)}
	add := &redis.XAddArgs{Stream: w.keys.Journal, ID: p.String(), Values: []any{"k", key, "v", value}}
	require.NoError(t, w.client.XAdd(t.Context(), add).Err())
	return p
}

// setup returns a journal on a server, and what writes to it. Nobody has asked for its status yet.
func setup(client redis.UniversalClient) (j *Journal, on Server, w *writer) {
	keys := NewKeys("t:", "", 0)
	return New(keys), Server{Client: client}, &writer{client: client, keys: keys}
}

func look(t *testing.T, j *Journal, on Server, known Known) Now {
	t.Helper()
	now, err := j.Look(t.Context(), on, known)
	require.NoError(t, err)
	return now
}
