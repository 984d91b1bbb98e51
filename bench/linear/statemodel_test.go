package linear

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// request is what a caller wants of a value. No two write the same text.
type request struct {
	key  string
	op   string // get, put, put if, create, update, delete, delete if
	text string // to write
	// expected is the version of put if and delete if; base is the text that update has seen.
	expected int64
	base     string
	fence    int64 // 0 for none
}

// answer is how it ended.
type answer struct {
	outcome string // ok, missing (get and update), conflict, fenced, uncertain
	// version and text are what a write has made, or what get and a conflict have found; 0 if there was nothing.
	version int64
	text    string
}

// register is a value as the model sees it.
type register struct {
	exists  bool
	text    string
	version int64 // 0 if an uncertain write has made it: the first who sees it binds it
	last    int64 // no version up to here can come again
	fence   int64
}

// stateModel is what a State promises: each call happens once, at one moment between its begin and its end; but one that
// is uncertain happens at any time after its begin, or never, which is the same as at the end of all.
func stateModel() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := make(map[string][]porcupine.Operation)
			for _, o := range history {
				key := o.Input.(request).key
				byKey[key] = append(byKey[key], o)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() any { return register{} },
		Step: func(before, what, how any) (bool, any) {
			ok, after := before.(register).step(what.(request), how.(answer))
			return ok, after
		},
	}
}

// step reports whether an answer is right, and what is there then.
func (r register) step(q request, a answer) (bool, register) {
	switch a.outcome {
	case "missing":
		return !r.exists, r
	case "fenced":
		return r.fence > q.fence, r
	case "conflict":
		if a.version == 0 {
			return !r.exists && q.expected != 0, r
		}
		ok, after := r.seen(a)
		return ok && (q.op == "create" || after.version != q.expected), after
	case "uncertain":
		if allowed, after := r.allows(q); allowed {
			return true, after.written(q, 0)
		}
		return true, r
	}
	if q.op == "get" {
		return r.seen(a)
	}
	allowed, after := r.allows(q)
	if !allowed {
		return false, r
	}
	if q.op == "delete" || q.op == "delete if" {
		return true, after.written(q, 0)
	}
	return a.version > r.last, after.written(q, a.version)
}

// seen reports whether somebody can have found this.
func (r register) seen(a answer) (bool, register) {
	if r.exists && r.version == 0 && a.version > r.last {
		r.version, r.last = a.version, a.version
	}
	return r.exists && r.version == a.version && r.text == a.text, r
}

// allows reports whether a write may be done.
func (r register) allows(q request) (bool, register) {
	if q.fence > 0 && q.fence < r.fence {
		return false, r
	}
	switch q.op {
	case "create":
		return !r.exists, r
	case "update":
		return r.exists && r.text == q.base, r
	case "put if", "delete if":
		if r.exists && r.version == 0 && q.expected > r.last { // its caller must have seen it somewhere
			r.version, r.last = q.expected, q.expected
		}
		return r.exists && r.version == q.expected, r
	default:
		return true, r
	}
}

// written returns what is there after a write.
func (r register) written(q request, version int64) register {
	r.fence = max(r.fence, q.fence)
	r.last = max(r.last, version)
	if q.op == "delete" || q.op == "delete if" {
		r.exists, r.text, r.version = false, "", 0
		return r
	}
	r.exists, r.text, r.version = true, q.text, version
	return r
}

// journal collects what happened. All times are of one clock that does not step.
type journal struct {
	begin time.Time

	mu      sync.Mutex // guards what follows
	history []porcupine.Operation
	counts  map[string]int // by outcome
}

func newJournal() *journal { return &journal{begin: time.Now(), counts: make(map[string]int)} }

// add notes a call that has ended now. One that is uncertain has no end.
func (j *journal) add(client int, q request, a answer, from time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	to := int64(time.Since(j.begin))
	if a.outcome == "uncertain" {
		to = math.MaxInt64
	}
	j.counts[a.outcome]++
	j.history = append(j.history, porcupine.Operation{
		ClientId: client, Input: q, Output: a, Call: int64(from.Sub(j.begin)), Return: to,
	})
}

func (j *journal) check() porcupine.CheckResult {
	j.mu.Lock()
	defer j.mu.Unlock()
	return porcupine.CheckOperationsTimeout(stateModel(), slices.Clone(j.history), 2*time.Minute)
}

// TestStateModel: what it takes for right and for wrong.
func TestStateModel(t *testing.T) {
	t.Parallel()
	const forever = math.MaxInt64
	type op struct {
		request
		answer
		from, to int64
	}
	put := func(text string, version, from, to int64) op {
		return op{request{op: "put", text: text}, answer{"ok", version, text}, from, to}
	}
	got := func(text string, version, from, to int64) op {
		return op{request{op: "get"}, answer{"ok", version, text}, from, to}
	}
	missing := func(from, to int64) op { return op{request{op: "get"}, answer{outcome: "missing"}, from, to} }
	deleted := func(from, to int64) op { return op{request{op: "delete"}, answer{outcome: "ok"}, from, to} }
	create := func(text, outcome string, version, from, to int64) op {
		return op{request{op: "create", text: text}, answer{outcome, version, text}, from, to}
	}
	maybe := func(what, text string, expected, from int64) op {
		return op{request{op: what, text: text, expected: expected}, answer{outcome: "uncertain"}, from, forever}
	}
	putIf := func(text string, expected, version, from, to int64) op {
		return op{request{op: "put if", text: text, expected: expected}, answer{"ok", version, text}, from, to}
	}
	conflict := func(expected, version int64, text string, from, to int64) op {
		return op{request{op: "put if", expected: expected}, answer{"conflict", version, text}, from, to}
	}
	update := func(text, base string, version, from, to int64) op {
		return op{request{op: "update", text: text, base: base}, answer{"ok", version, text}, from, to}
	}
	fenced := func(outcome, text string, fence, version, from, to int64) op {
		return op{request{op: "put", text: text, fence: fence}, answer{outcome, version, text}, from, to}
	}
	for name, test := range map[string]struct {
		history []op
		want    porcupine.CheckResult
	}{
		"in turn":                    {[]op{missing(0, 1), put("a", 5, 2, 3), got("a", 5, 4, 5), deleted(6, 7), missing(8, 9)}, porcupine.Ok},
		"at once":                    {[]op{put("a", 5, 0, 9), missing(1, 2), got("a", 5, 3, 4)}, porcupine.Ok},
		"lost":                       {[]op{put("a", 5, 0, 1), missing(2, 3)}, porcupine.Illegal},
		"stale":                      {[]op{put("a", 5, 0, 1), put("b", 6, 2, 3), got("a", 5, 4, 5)}, porcupine.Illegal},
		"another version":            {[]op{put("a", 5, 0, 1), got("a", 6, 2, 3)}, porcupine.Illegal},
		"a version again":            {[]op{put("a", 5, 0, 1), deleted(2, 3), put("b", 5, 4, 5)}, porcupine.Illegal},
		"a smaller version":          {[]op{put("a", 5, 0, 1), put("b", 4, 4, 5)}, porcupine.Illegal},
		"two creators":               {[]op{create("a", "ok", 5, 0, 9), create("b", "ok", 6, 0, 9)}, porcupine.Illegal},
		"created again":              {[]op{create("a", "ok", 5, 0, 1), deleted(2, 3), create("b", "ok", 6, 4, 5)}, porcupine.Ok},
		"a conflict":                 {[]op{put("a", 5, 0, 1), conflict(4, 5, "a", 2, 3)}, porcupine.Ok},
		"a conflict with nothing":    {[]op{conflict(4, 0, "", 2, 3)}, porcupine.Ok},
		"a conflict with itself":     {[]op{put("a", 5, 0, 1), conflict(5, 5, "a", 2, 3)}, porcupine.Illegal},
		"a lost update":              {[]op{put("a", 5, 0, 1), putIf("b", 5, 6, 2, 3), putIf("c", 5, 7, 2, 3)}, porcupine.Illegal},
		"updates":                    {[]op{put("a", 5, 0, 1), update("b", "a", 6, 2, 9), update("c", "b", 7, 2, 9)}, porcupine.Ok},
		"updates of the same":        {[]op{put("a", 5, 0, 1), update("b", "a", 6, 2, 9), update("c", "a", 7, 2, 9)}, porcupine.Illegal},
		"uncertain and done":         {[]op{maybe("put", "a", 0, 0), got("a", 5, 2, 3)}, porcupine.Ok},
		"uncertain and not":          {[]op{maybe("put", "a", 0, 0), missing(2, 3)}, porcupine.Ok},
		"uncertain and late":         {[]op{maybe("put", "a", 0, 0), missing(2, 3), got("a", 5, 4, 5)}, porcupine.Ok},
		"uncertain, done twice":      {[]op{maybe("put", "a", 0, 0), got("a", 5, 1, 2), deleted(3, 4), missing(5, 6), got("a", 7, 7, 8)}, porcupine.Illegal},
		"two versions":               {[]op{maybe("put", "a", 0, 0), got("a", 5, 2, 3), got("a", 6, 4, 5)}, porcupine.Illegal},
		"uncertain with a condition": {[]op{put("a", 5, 0, 1), maybe("put if", "b", 5, 2), put("c", 6, 3, 4), got("b", 7, 5, 6)}, porcupine.Illegal},
		"built on what is uncertain": {[]op{maybe("put", "a", 0, 0), got("a", 5, 1, 9), putIf("b", 5, 6, 2, 3), got("b", 6, 4, 5)}, porcupine.Ok},
		"fenced":                     {[]op{fenced("ok", "a", 7, 5, 0, 1), fenced("fenced", "b", 6, 0, 2, 3), got("a", 5, 4, 5)}, porcupine.Ok},
		"fenced after a delete":      {[]op{fenced("ok", "a", 7, 5, 0, 1), deleted(2, 3), fenced("fenced", "b", 6, 0, 4, 5)}, porcupine.Ok},
		"a zombie":                   {[]op{fenced("ok", "a", 7, 5, 0, 1), deleted(2, 3), fenced("ok", "b", 6, 6, 4, 5)}, porcupine.Illegal},
		"fenced without reason":      {[]op{fenced("ok", "a", 7, 5, 0, 1), fenced("fenced", "b", 7, 0, 2, 3)}, porcupine.Illegal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var history []porcupine.Operation
			for i, o := range test.history {
				history = append(history, porcupine.Operation{
					ClientId: i, Input: o.request, Output: o.answer, Call: o.from, Return: o.to,
				})
			}
			require.Equal(t, test.want, porcupine.CheckOperationsTimeout(stateModel(), history, time.Minute))
		})
	}
}
