package arguments_test

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/internal/arguments"
)

// sender is an interface that types of every kind of nil implement.
type sender interface{ send() }

type (
	pointee struct{}
	table   map[string]int
	list    []int
	hook    func()
	pipe    chan int
)

func (*pointee) send() {}
func (table) send()    {}
func (list) send()     {}
func (hook) send()     {}
func (pipe) send()     {}

func TestIsNil(t *testing.T) {
	t.Parallel()
	var none sender
	for name, v := range map[string]any{
		"nil": nil, "a nil interface": none,
		"a nil pointer": sender((*pointee)(nil)), "a nil map": sender(table(nil)), "a nil slice": sender(list(nil)),
		"a nil function": sender(hook(nil)), "a nil channel": sender(pipe(nil)), "a nil unsafe pointer": unsafe.Pointer(nil),
		"a nil error of some type": error((*arguments.Error)(nil)),
	} {
		assert.True(t, arguments.IsNil(v), name)
	}
	for name, v := range map[string]any{
		"a pointer": sender(&pointee{}), "an empty map": sender(table{}), "an empty slice": sender(list{}),
		"a function": sender(hook(func() {})), "a channel": sender(make(pipe)), "a value": pointee{}, "zero": 0, "no text": "",
		"an error": errors.New("x"), "a pointer to nil": new(sender),
	} {
		assert.False(t, arguments.IsNil(v), name)
	}
}
