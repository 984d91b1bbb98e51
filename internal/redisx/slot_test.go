package redisx

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSlotTag(t *testing.T) {
	t.Parallel()
	require.Equal(t, 0x31c3%slotCount, hashSlot("123456789"), "the specification's own example")
	for first := 0; first < slotCount; first += 1021 {
		tag := SlotTag(first, first)
		require.Equal(t, first, hashSlot(strings.Trim(tag, "{}")))
	}
}
