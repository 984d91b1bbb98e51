package lock

import (
	"slices"
	"sync"
)

// maxLeftovers is how many values are remembered for one resource. Beyond it the oldest are forgotten: an acquisition may
// then be refused by one of them, until that is gone.
const maxLeftovers = 64

// leftovers knows the values that this manager has given up and that may be on a master nevertheless: the command that
// removes one is under way still, or the one that sets it. On several masters a release returns when the majority has
// released, so the same manager's next acquisition may overtake it on its way to a master that is late. That master is
// told, by the acquisition itself, which values do not count as somebody else's any more.
//
// On a single node nothing of the kind can happen, and there are none: all methods may be called on nil.
type leftovers struct {
	mu sync.Mutex // guards byLock
	// byLock has the values by the key of the lock, the oldest first.
	byLock map[string][]leftover
}

// leftover is a value that may be on a node, for as many reasons as doubts says.
type leftover struct {
	value  string
	node   int
	doubts int
}

func newLeftovers(nodes int) *leftovers {
	if nodes == 1 {
		return nil
	}
	return &leftovers{byLock: make(map[string][]leftover)}
}

// add notes a reason for a value being on a node. Nobody may rely on a lock with that value any more.
func (ls *leftovers) add(n *node, k keys, value string) {
	if ls == nil {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	all := ls.byLock[k.lock()]
	if i := find(all, n, value); i >= 0 {
		all[i].doubts++
		return
	}
	if len(all) >= maxLeftovers {
		all = slices.Delete(all, 0, 1)
	}
	ls.byLock[k.lock()] = append(all, leftover{value: value, node: n.index, doubts: 1})
}

// settle notes that such a reason has gone.
func (ls *leftovers) settle(n *node, k keys, value string) {
	if ls == nil {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	all := ls.byLock[k.lock()]
	i := find(all, n, value)
	if i < 0 {
		return
	}
	if all[i].doubts--; all[i].doubts > 0 {
		return
	}
	if all = slices.Delete(all, i, i+1); len(all) == 0 {
		delete(ls.byLock, k.lock())
	} else {
		ls.byLock[k.lock()] = all
	}
}

// on returns the values that may be on a node; most often there are none.
func (ls *leftovers) on(n *node, k keys) []any {
	if ls == nil {
		return nil
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var values []any
	for _, l := range ls.byLock[k.lock()] {
		if l.node == n.index {
			values = append(values, l.value)
		}
	}
	return values
}

func find(all []leftover, n *node, value string) int {
	return slices.IndexFunc(all, func(l leftover) bool { return l.node == n.index && l.value == value })
}
