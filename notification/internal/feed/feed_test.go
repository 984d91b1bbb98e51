package feed_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/feed"
)

func TestSession(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	f, sink := start(t, client, nil, feed.Name{Text: "a"}, glob("b*"))
	sink.wait(t, 1, "up 1")
	assert.Len(t, sink.all("confirmed 1 a"), 1)
	assert.Len(t, sink.all("confirmed 1 *b*"), 1)
	assert.NotEmpty(t, sink.all("beat 1"), "it is up when a heartbeat has come back")
	require.NoError(t, client.Publish(t.Context(), "a", "x").Err())
	require.NoError(t, client.Publish(t.Context(), "bc", "y").Err())
	assert.Equal(t, "message 1 *b* bc y", sink.wait(t, 2, "message"))
	assert.Equal(t, "message 1 a a x", sink.wait(t, 1, "message"))
	assert.True(t, f.Status().Up)
	require.NoError(t, f.Alive())
}
