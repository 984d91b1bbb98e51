package notification_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// TestPrintingIsNoRace is for the race detector: fmt reads all fields of what has no String.
func TestPrintingIsNoRace(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	s := subscribe(t, n, "workflow:*")
	for i := range 20 {
		require.NoError(t, n.PublishWorkflowEvent(t.Context(), &notification.WorkflowEvent{ID: strconv.Itoa(i)}))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
			assert.Contains(t, fmt.Sprintf(verb, s), "workflow:*")
			assert.Contains(t, fmt.Sprintf(verb, n), "default")
		}
	}
}
