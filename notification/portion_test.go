package notification

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPortion(t *testing.T) {
	t.Parallel()
	timeout := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	p := newPortion(500)
	assert.False(t, p.failed(errors.New("NOPERM")), "less would not help")
	for _, size := range []int{125, 31, 7, 1} {
		assert.True(t, p.failed(timeout))
		assert.Equal(t, size, p.size)
	}
	assert.False(t, p.failed(timeout), "there is no less")
	for p.size < 500 {
		before := p.size
		p.arrived()
		require.Less(t, before, p.size)
	}
	p.arrived()
	assert.Equal(t, 500, p.size)
}

func TestPatience(t *testing.T) {
	t.Parallel()
	var (
		timeout     = &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
		here, there = position{1, 1}, position{2, 2}
		p           = &patience{limit: 10 * time.Second}
	)
	in := func(seconds int, from position, count int, err error) bool {
		return permanent(p.after(err, from, count, time.Duration(seconds)*time.Second))
	}
	assert.False(t, in(100, here, smallest, timeout), "once is not enough")
	assert.Equal(t, 500, p.size(here, 500), "it may have been too large")
	assert.False(t, in(100, here, smallest, timeout))
	assert.Equal(t, 1, p.size(here, 500))
	assert.Equal(t, 500, p.size(there, 500))
	assert.False(t, in(100, here, 3, timeout), "less would arrive")
	assert.False(t, in(100, here, smallest, errors.New("another")))
	assert.False(t, in(100, here, smallest, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}), "nobody was asked")
	assert.True(t, in(100, here, smallest, timeout))
	for range 9 {
		assert.False(t, in(1, there, smallest, timeout), "another one")
	}
	err := p.after(timeout, there, smallest, time.Second)
	assert.True(t, permanent(err))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Equal(t, timeout, (*patience)(nil).after(timeout, here, smallest, time.Hour), "for ever")
}
