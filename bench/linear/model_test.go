package linear

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// step is what happened to a lock: somebody has become the holder, or has ceased to be.
type step struct {
	resource string
	ended    bool
	token    int64
}

// state is a lock as the model sees it.
type state struct {
	holder int64 // the token of the holder, 0 if there is none
	last   int64 // the largest token so far
}

// lockModel is what locks promise: one holder at a time, each with a larger token than all before.
func lockModel() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			slices.SortStableFunc(history, func(a, b porcupine.Operation) int {
				return cmp.Compare(input(a.Input).resource, input(b.Input).resource)
			})
			var parts [][]porcupine.Operation
			for i, op := range history {
				if i == 0 || input(history[i-1].Input).resource != input(op.Input).resource {
					parts = append(parts, nil)
				}
				parts[len(parts)-1] = append(parts[len(parts)-1], op)
			}
			return parts
		},
		Init: func() any { return state{} },
		Step: func(before, what, _ any) (bool, any) {
			s, ok := before.(state)
			in := input(what)
			if in.ended {
				return ok && s.holder == in.token, state{last: s.last}
			}
			return ok && s.holder == 0 && in.token > s.last, state{holder: in.token, last: in.token}
		},
		DescribeOperation: func(what, _ any) string {
			in := input(what)
			if in.ended {
				return fmt.Sprintf("end of %d", in.token)
			}
			return fmt.Sprintf("token %d", in.token)
		},
	}
}

func input(what any) step {
	s, _ := what.(step)
	return s
}

// recorder collects what happened. All times are of one clock that does not step.
type recorder struct {
	begin time.Time

	mu      sync.Mutex // guards what follows
	history []porcupine.Operation
	losses  int
}

func newRecorder() *recorder { return &recorder{begin: time.Now()} }

// acquired notes that a call from..to made somebody the holder.
func (r *recorder) acquired(client int, resource string, token int64, from, to time.Time) {
	r.add(client, step{resource, false, token}, from, to)
}

// ended notes that a holder has ceased to be one, at some moment within from..to. Until then it has relied on the lock.
func (r *recorder) ended(client int, resource string, token int64, from, to time.Time) {
	r.add(client, step{resource, true, token}, from, to)
}

func (r *recorder) add(client int, s step, from, to time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, porcupine.Operation{
		ClientId: client, Input: s, Call: int64(from.Sub(r.begin)), Return: int64(to.Sub(r.begin)),
	})
}

func (r *recorder) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.losses++
}

func (r *recorder) tenures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.history) / 2
}

// check returns whether the history is one of locks that keep their promises.
func (r *recorder) check() porcupine.CheckResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return porcupine.CheckOperationsTimeout(lockModel(), slices.Clone(r.history), time.Minute)
}

// TestModel: what it takes for right and for wrong.
func TestModel(t *testing.T) {
	t.Parallel()
	type op struct {
		step
		from, to int
	}
	taken := func(token int64, from, to int) op { return op{step{"a", false, token}, from, to} }
	ended := func(token int64, from, to int) op { return op{step{"a", true, token}, from, to} }
	for name, test := range map[string]struct {
		history []op
		want    porcupine.CheckResult
	}{
		"one after the other":          {[]op{taken(1, 0, 1), ended(1, 2, 3), taken(2, 4, 5), ended(2, 6, 7)}, porcupine.Ok},
		"asked before the other ended": {[]op{taken(1, 0, 1), taken(2, 1, 5), ended(1, 2, 6), ended(2, 6, 7)}, porcupine.Ok},
		"two holders":                  {[]op{taken(1, 0, 1), taken(2, 2, 3), ended(1, 4, 5), ended(2, 6, 7)}, porcupine.Illegal},
		"the same token":               {[]op{taken(1, 0, 1), ended(1, 2, 3), taken(1, 4, 5), ended(1, 6, 7)}, porcupine.Illegal},
		"a smaller token":              {[]op{taken(2, 0, 1), ended(2, 2, 3), taken(1, 4, 5), ended(1, 6, 7)}, porcupine.Illegal},
		"another resource": {
			[]op{taken(2, 0, 1), {step{"b", false, 1}, 2, 3}, {step{"b", true, 1}, 4, 5}, ended(2, 6, 7)}, porcupine.Ok,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRecorder()
			for i, o := range test.history {
				r.add(i, o.step, r.begin.Add(time.Duration(o.from)), r.begin.Add(time.Duration(o.to)))
			}
			require.Equal(t, test.want, r.check())
		})
	}
}
