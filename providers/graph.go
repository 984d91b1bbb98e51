package providers

import (
	"fmt"
	"reflect"

	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
)

// own is the value that the constructors of one instance use: what the graph has under
// the name of the instance, replacements and decorations included. It is private to
// the Fx module of the instance.
type own[T any] struct{ value T }

// take returns the constructor of own[T]. Names are known only at run time, so they
// cannot be in the tags of a parameter struct, and this is the one place where a
// parameter gets its name by fx.Annotate.
func take[T any](i Instance) any {
	target := func(v T) (own[T], error) {
		if IsNil(v) {
			return own[T]{}, fmt.Errorf("%w: the %s of instance %q is nil: fx.Decorate and fx.Replace must not return nil; %s",
				ErrInvalidOption, reflect.TypeFor[T](), i.label(), instead[T]())
		}
		return own[T]{v}, nil
	}
	if i.Name == "" {
		return target
	}
	return located(fx.Annotate(target, fx.ParamTags(fmt.Sprintf("name:%q", i.Name))), target)
}

// instead says what to write in place of a decorator that returns nil.
func instead[T any]() string {
	switch reflect.TypeFor[T]() {
	case reflect.TypeFor[*config.Config]():
		return "cache.WithConfig and cache.ReplaceConfig set a configuration"
	case reflect.TypeFor[lock.LockManager]():
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

// IsNil reports whether v is nil, or an interface that holds a nil pointer, which
// would be a panic at its first use.
func IsNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Chan, reflect.Slice:
		return r.IsNil()
	default:
		return false
	}
}

// included is provided by each instance, for itself alone.
type included struct{}

// once makes a second inclusion of a module fail with rule in the error of Fx, before
// it fails at the first type of the module, which would say nothing of the cause.
func once(rule string) fx.Option {
	return fx.Provide(fx.Annotated{Name: rule, Target: func() included { return included{} }})
}

// graph is what the application gets from an instance by its interfaces and types.
type graph struct {
	fx.In
	Config        own[*config.Config]
	Redis         own[*client.Redis]
	Universal     own[redis.UniversalClient]
	Locks         own[lock.LockManager]
	Notifications own[notification.NotificationSystem]
}

// construct makes the parts, which finds what is nil or cannot work while the
// application is built. Only the client does anything at start; the others begin to
// work when they are first used.
func construct(graph) {}
