package arguments

import "reflect"

// IsNil reports whether v is nil, or an interface that holds a nil pointer, map, slice,
// function or channel. A comparison with nil does not see the second, whose first use
// would be a panic.
func IsNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.UnsafePointer, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan:
		return r.IsNil()
	default:
		return false
	}
}
