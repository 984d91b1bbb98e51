package journal

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	k := NewKeys("cache:", "", 0)
	assert.Equal(t, "cache:{notification}:journal", k.Journal)
	assert.Equal(t, "cache:{notification}:state", k.State)
	assert.Equal(t, "cache:{notification}:lane:", k.Lanes)
	assert.Equal(t, "cache:{notification}:heartbeat:", k.Heartbeat)
	assert.Empty(t, k.Tag)
	k = NewKeys("cache:", "staging", 0)
	assert.Equal(t, "cache:{notification}:staging:", k.Base)
	assert.Equal(t, "cache:{notification}:staging:journal", k.Journal)
	assert.Equal(t, "cache:{notification}:heartbeat:", k.Heartbeat, "of all channel prefixes")
	k = NewKeys("", "", 0)
	assert.Equal(t, "{notification}:journal", k.Journal)
}

func TestEachJournalHasItsOwnTag(t *testing.T) {
	t.Parallel()
	tags, journals := map[string]bool{}, map[string]bool{}
	count := 0
	for _, prefix := range []string{"cache:", "", "a", "a:", "b"} {
		for _, channels := range []string{"", "a", "b", "cache:"} {
			for _, database := range []int{0, 1, 12} {
				k := NewKeys(prefix, channels, database)
				assert.Regexp(t, `^[-.0-9a-z]*$`, k.Tag, "it needs no escapes")
				tags[k.Tag] = true
				journals[k.Journal] = true
				count++
			}
		}
	}
	assert.Len(t, tags, count)
	assert.Len(t, journals, count/3, "databases have the same names")
}

func TestReservedChannels(t *testing.T) {
	t.Parallel()
	k := NewKeys("app:", "staging", 0)
	for _, channel := range []string{k.Heartbeat + "x", "other:{notification}:heartbeat:x", "app:lock:inbox:x"} {
		assert.True(t, k.Reserved(channel), channel)
		assert.True(t, k.Internal(channel, "x"), channel)
	}
	for _, channel := range []string{"workflow:events", "lock:inbox:x", "app:probe", k.Journal} {
		assert.False(t, k.Reserved(channel), channel)
		assert.False(t, k.Internal(channel, "x"), channel)
	}
	assert.True(t, k.Internal("app:probe", ""))
	assert.False(t, k.Internal("other:probe", ""))
	assert.True(t, k.Internal("lock:inbox:x", "value lock:inbox:x:1"), "of another key prefix")
}
