package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/internal/redisx"
)

// TestKeys: names as the package comment has them; the lease is on the node of its value, and keys do not get mixed up.
func TestKeys(t *testing.T) {
	t.Parallel()
	plain := newKeyspace("cache:", "users", nil)
	group := newKeyspace("cache:", "users", func(key string) string { return key[:1] })
	assert.Equal(t, "cache:v:users:{42}", plain.value("42"))
	assert.Equal(t, "cache:l:users:{42}", plain.lease("42"))
	assert.Equal(t, "cache:v:users:{4}:42", group.value("42"))
	assert.Equal(t, "cache:l:users:{4}:42", group.lease("42"))
	assert.Equal(t, "cache:v:users:{%7D}:}", group.value("}"))
	assert.Equal(t, "cache:v:users:{%25}:%7D", group.value("%7D"))
	names := make(map[string]string)
	for _, key := range []string{"a", "{", "}", "{}", "{a}", "a}b", "}a", "%", "%%", "%}", "%a", "}:", "x}:y", "\xff"} {
		for _, k := range []keyspace{plain, group} {
			for _, name := range []string{k.value(key), k.lease(key)} {
				assert.NotContains(t, names, name)
				names[name] = key
			}
			got, ok := k.key(k.value(key))
			assert.True(t, ok)
			assert.Equal(t, key, got)
		}
		assert.Contains(t, plain.value(key), redisx.HashTag(key))
	}
	for _, name := range []string{
		"", "cache:v:users:", "cache:v:users:a", "cache:v:users:{a", "cache:v:users:{}", "cache:v:users:{%}",
		"cache:v:users:{}a}", "cache:v:usersx:{a}", "cache:l:users:{a}", "cache:v:users:{b}:a", "cache:v:users:{a}:",
	} {
		for _, k := range []keyspace{plain, group} {
			key, ok := k.key(name)
			assert.False(t, ok, "%q %q", name, key)
		}
	}
}

// TestGroupsDoNotShareKeys, whatever groups and keys contain.
func TestGroupsDoNotShareKeys(t *testing.T) {
	t.Parallel()
	parts := []string{"", "a", "b", "}", "}:", "%", "%7D", "%25", "a}:b", "b}:a", "{", "{a}:b", "%}", ":"}
	names := make(map[string]string)
	for _, group := range parts {
		for _, key := range parts[1:] {
			k := newKeyspace("cache:", "users", func(string) string { return group })
			name := k.value(key)
			assert.NotContains(t, names, name)
			names[name] = key
			got, ok := k.key(name)
			assert.True(t, ok)
			assert.Equal(t, key, got)
		}
	}
}

// TestForeignNamesAndPanickingGroups: such names are no keys of ours.
func TestForeignNamesAndPanickingGroups(t *testing.T) {
	t.Parallel()
	k := newKeyspace("cache:", "users", func(key string) string {
		tenant, _, ok := strings.Cut(key, "/")
		if !ok {
			panic("no tenant")
		}
		return tenant
	})
	key, ok := k.key("cache:v:users:{tenant}:tenant/1")
	assert.True(t, ok)
	assert.Equal(t, "tenant/1", key)
	_, ok = k.key("cache:v:users:{x}:y")
	assert.False(t, ok)
}
