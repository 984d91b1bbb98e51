package store_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/internal/redistest"
)

// large cannot be a float64.
const large = 1<<53 + 1

// holder has a number wherever a type can have one, and in interfaces.
type holder struct {
	Number  int64
	Pointer *holder
	Map     map[string][]any
	Inner   struct{ Any any }
}

// tree has itself in it, and no interface.
type tree struct {
	Number   int64
	Children []*tree
	Parents  map[string]tree
}

// Large numbers stay exact, whether they are read into a field that has a type or into an interface.
func TestLargeNumbersStayExact(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, redistest.Start(t).Addr()))
	exact := json.Number("9007199254740993")

	trees := newState[tree](t, s)
	oak := tree{Number: large, Children: []*tree{{Number: large}}, Parents: map[string]tree{"p": {Number: large}}}
	put(t, trees, "tree", oak)
	assert.Equal(t, oak, get(t, trees, "tree").Value)

	holders := newState[holder](t, s)
	h := holder{Number: large, Map: map[string][]any{"m": {large}}, Pointer: &holder{Map: map[string][]any{"m": {large}}}}
	h.Inner.Any, h.Pointer.Inner.Any = large, large
	put(t, holders, "holder", h)
	got := get(t, holders, "holder").Value
	assert.EqualValues(t, large, got.Number)
	assert.Equal(t, []any{exact, exact, exact, exact},
		[]any{got.Map["m"][0], got.Inner.Any, got.Pointer.Map["m"][0], got.Pointer.Inner.Any})

	lists := newState[[2]map[string]any](t, s)
	put(t, lists, "list", [2]map[string]any{{"a": large}, {"b": large}})
	assert.Equal(t, [2]map[string]any{{"a": exact}, {"b": exact}}, get(t, lists, "list").Value)
}

// eight has another type in it in eight places.
type eight[T any] struct{ A, B, C, D, E, F, G, H *T }

// A type is looked at once, in however many places it is: there are billions of ways through this one.
func TestTypesWithManyPlaces(t *testing.T) {
	t.Parallel()
	type inner = eight[eight[eight[eight[eight[int]]]]]
	st := newState[eight[eight[eight[eight[eight[inner]]]]]](t, newStore(t, newClient(t, redistest.Start(t).Addr())))
	put(t, st, "k", eight[eight[eight[eight[eight[inner]]]]]{A: new(eight[eight[eight[eight[inner]]]])})
	assert.NotNil(t, get(t, st, "k").Value.A)
}
