package store

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestValueSizes(t *testing.T) {
	t.Parallel()
	var s valueSizes
	assert.Equal(t, 100, s.part(), "nothing is known")
	assert.Equal(t, 64<<10, s.one())
	s.saw(0)
	assert.Equal(t, 100, s.part(), "that there is no value says nothing")
	s.saw(200)
	assert.Equal(t, 500, s.part())
	assert.Equal(t, 200, s.one())
	for range 10 {
		s.saw(1 << 20)
	}
	assert.Less(t, s.part(), 10)
	for range 200 {
		s.saw(1)
	}
	assert.Equal(t, 500, s.part())
	assert.Equal(t, 30, s.tooMany(300))
	assert.Equal(t, 30, s.part())
	s.saw(1)
	assert.Equal(t, 30, s.part(), "what is read together may be larger")
	assert.Equal(t, 3, s.tooMany(30))
	assert.Equal(t, 3, s.part())
	assert.Equal(t, 1, s.tooMany(3))
	assert.Equal(t, 1, s.tooMany(2))
	assert.Equal(t, 1, s.part())
	for _, part := range []int{2, 4, 8} {
		s.sawTogether([]int{200, 0, 200})
		assert.Equal(t, part, s.part(), "it was an outage, perhaps")
	}
	s.sawTogether([]int{1 << 18, 0, 1 << 18})
	assert.Equal(t, 4, s.part())
	for range 100 {
		s.sawTogether([]int{0, 200})
	}
	assert.Equal(t, 500, s.part())
	for range 100 {
		s.saw(1 << 30)
	}
	assert.Equal(t, 1, s.part())
	var none *valueSizes
	none.saw(1 << 30)
	none.sawTogether([]int{1})
	assert.Equal(t, 50, none.tooMany(500))
	assert.Equal(t, 500, none.part())
	assert.Equal(t, none.expected(), none.one())
}

// What took too long together says nothing about values that are read one by one: many of these leave at once.
func TestTooManySaysNothingOfOne(t *testing.T) {
	t.Parallel()
	s := new(valueSizes)
	s.tooMany(10)
	assert.Equal(t, unknownSize, s.one())
	s.saw(10)
	s.tooMany(10)
	assert.Equal(t, 10, s.one())
	assert.Equal(t, smallSize, (*valueSizes)(nil).one())
}
