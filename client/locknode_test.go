package client

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/config"
)

// fmt reads nothing of a lock node, which changes while others use it.
func TestLockNodePrintsItsName(t *testing.T) {
	t.Parallel()
	r := open(t, &config.Config{LockNodes: []string{"localhost:1"}})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		assert.Equal(t, "[client.LockNode]", fmt.Sprintf("["+verb+"]", r.LockNodes()[0]), verb)
	}
}
