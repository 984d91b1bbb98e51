package providers

import (
	"fmt"
	"reflect"

	"go.uber.org/fx"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
)

// input is a value that the constructors of one instance take: what the graph has under
// the name of the instance, replacements and decorations included. It is private to
// the Fx module of the instance.
type input[T any] struct{ value T }

// inputOf returns the constructor of input[T]. Names are known only at run time, so they
// cannot be in the tags of a parameter struct, and this is the one place where a
// parameter gets its name by fx.Annotate.
func inputOf[T any](i Instance) any {
	target := func(v T) (input[T], error) {
		if arguments.IsNil(v) {
			return input[T]{}, fmt.Errorf("%w: the %s of instance %q is nil: fx.Decorate and fx.Replace must not return nil; %s",
				ErrInvalidOption, reflect.TypeFor[T](), i.label(), remedy[T]())
		}
		return input[T]{v}, nil
	}
	if i.Name == "" {
		return target
	}
	return located(fx.Annotate(target, fx.ParamTags(fmt.Sprintf("name:%q", i.Name))), target)
}

// remedy says what to write in place of a decorator that returns nil.
func remedy[T any]() string {
	switch reflect.TypeFor[T]() {
	case reflect.TypeFor[*config.Config]():
		return "cache.WithConfig and cache.ReplaceConfig set a configuration"
	case reflect.TypeFor[lock.LockManager](), reflect.TypeFor[lock.Locker]():
		return "cache.ReplaceLockManager sets a fake"
	case reflect.TypeFor[notification.NotificationSystem]():
		return "cache.ReplaceNotificationSystem sets a fake"
	default:
		return "without them the module makes one"
	}
}

// located tells Fx where an annotated function is. fx.Annotate wraps it by reflection,
// and errors would call it reflect.makeFuncStub: Fx takes the location from this
// field, which it does not fill itself. Were the field to go away, only the name in
// these errors would suffer.
func located(annotated, target any) any {
	v := reflect.New(reflect.TypeOf(annotated)).Elem()
	v.Set(reflect.ValueOf(annotated))
	if v.Kind() != reflect.Struct {
		return annotated
	}
	field := v.FieldByName("FuncPtr")
	if !field.IsValid() || field.Kind() != reflect.Uintptr {
		return annotated
	}
	field.SetUint(uint64(reflect.ValueOf(target).Pointer()))
	return v.Interface()
}

// included is provided by each instance, for itself alone.
type included struct{}

// onlyOnce makes a second inclusion of a module fail with rule in the error of Fx, before
// it fails at the first type of the module, which would say nothing of the cause.
func onlyOnce(rule string) fx.Option {
	return fx.Provide(fx.Annotated{Name: rule, Target: func() included { return included{} }})
}
