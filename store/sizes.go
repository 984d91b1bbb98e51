package store

import (
	"sync/atomic"

	"github.com/compozy/cache/internal/batch"
)

const (
	// partKeys is how many keys are read together at most, and unknownKeys the same while nothing is known of their values.
	partKeys, unknownKeys = 500, 100
	// unknownSize is what is expected of a single value while nothing is known. Many callers read one each.
	unknownSize = 64 << 10
	// smallSize is what is expected of the key of a tag.
	smallSize = 64
	// memory is among how many values one makes the difference that it makes.
	memory = 16
)

// valueSizes is about how large the values of a Cache or State are lately, so that what is read together is not so much that
// others wait for long. It is safe for concurrent use. Nil is for what is small.
type valueSizes struct {
	mean atomic.Int64 // of all; 0 if nothing is known
	// together is that of values which are read together: they may be others than those that are read one by one.
	together atomic.Int64
}

// saw takes note of the size of a value; 0 is for none.
func (s *valueSizes) saw(size int) {
	if s == nil || size == 0 {
		return
	}
	mean := s.mean.Load()
	if mean == 0 {
		s.mean.Store(int64(size))
		return
	}
	s.mean.Store(max(mean+(int64(size)-mean)/memory, 1)) // if two do so at the same time, one does not count
}

// sawTogether takes note of the sizes of values that were read together in time. After what was too many the next ones are twice
// as many each time, unless their sizes say otherwise.
func (s *valueSizes) sawTogether(sizes []int) {
	if s == nil {
		return
	}
	sum, some := 0, 0
	for _, size := range sizes {
		s.saw(size)
		if sum += size; size > 0 {
			some++
		}
	}
	s.together.Store(max(s.together.Load()/2, int64(sum/max(some, 1))))
}

// tooMany takes note that it took too long to read so many values together, and returns how many the next ones are: a tenth.
func (s *valueSizes) tooMany(values int) int {
	if s != nil {
		s.together.Store(min(10*batch.MaxWork/int64(values), batch.MaxWork))
	}
	return max(values/10, 1)
}

// expected returns about how large each of several values is.
func (s *valueSizes) expected() int {
	if s == nil {
		return smallSize
	}
	if size := max(s.mean.Load(), s.together.Load()); size > 0 {
		return int(size)
	}
	return batch.MaxWork / unknownKeys
}

// one returns about how large a single value is.
func (s *valueSizes) one() int {
	if s == nil {
		return smallSize
	}
	if size := s.mean.Load(); size > 0 {
		return int(size)
	}
	return unknownSize
}

// part returns how many values are read together.
func (s *valueSizes) part() int { return min(max(batch.MaxWork/s.expected(), 1), partKeys) }
