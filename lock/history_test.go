package lock_test

import (
	"cmp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// tenure is how long somebody believed to hold a lock. Clocks of processes on one machine are the same.
type tenure struct {
	start time.Time // when the lock came back from the call
	end   time.Time // when its release was begun, or its loss was told
	until time.Time // the latest Until
	token int64
	lost  bool
}

// history collects tenures of one resource.
type history struct {
	mu   sync.Mutex // guards all
	all  []tenure
	lost int
}

func (h *history) add(t tenure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, t)
	if t.lost {
		h.lost++
	}
}

func (h *history) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all)
}

// check asserts what locks promise: one holder at a time, and growing tokens.
func (h *history) check(t testing.TB) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortFunc(h.all, func(a, b tenure) int { return cmp.Compare(a.token, b.token) })
	for i, one := range h.all {
		// A holder may not rely on the lock after Until, told or not: the inline clock of IsHeld says so.
		end := one.end
		if one.lost && one.until.Before(end) {
			end = one.until
		}
		if i+1 == len(h.all) {
			break
		}
		next := h.all[i+1]
		assert.Greater(t, next.token, one.token)
		assert.False(t, next.start.Before(end), "token %d began %v before the end of token %d", next.token, end.Sub(next.start), one.token)
	}
}
