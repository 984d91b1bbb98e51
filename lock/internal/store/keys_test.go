package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// hashTag returns what a cluster hashes of a key, as its specification says.
func hashTag(key string) string {
	_, rest, found := strings.Cut(key, "{")
	if !found {
		return key
	}
	tag, _, found := strings.Cut(rest, "}")
	if !found || tag == "" {
		return key
	}
	return tag
}

func FuzzKeysShareAHashTagAndNothingElse(f *testing.F) {
	for _, seed := range [][2]string{
		{"a", "b"}, {"}", "%}"}, {"%", "%%"}, {"{}", "}{"}, {"a}b", "a"}, {"a{b}c", "b"}, {"a}:fence", "a"}, {"\x00", "\xff"},
		{"}:queue", ":queue"}, {"%}", "}"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		if one == "" || other == "" {
			return // refused before it gets here
		}
		all := func(resource string) []string {
			k := NewKeys("cache:", resource)
			return []string{k.Lock(), k.Fence(), k.Queue(), k.Reserved()}
		}
		mine, theirs := all(one), all(other)
		for i, key := range mine {
			assert.Equal(t, hashTag(mine[0]), hashTag(key), "%q", one)
			for j, foreign := range theirs {
				if one != other || i != j {
					assert.NotEqual(t, key, foreign, "%q and %q", one, other)
				}
			}
		}
	})
}

func TestKeysOfOrdinaryNames(t *testing.T) {
	t.Parallel()
	k := NewKeys("cache:", "invoice 7")
	assert.Equal(t, "cache:lock:{invoice 7}", k.Lock())
	assert.Equal(t, "cache:lock:{invoice 7}:fence", k.Fence())
	assert.Equal(t, "cache:lock:{%}x}", NewKeys("cache:", "}x").Lock())
}
