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

// ReplaceConfig makes the unnamed instance use cfg.
func ReplaceConfig(cfg *config.Config) fx.Option {
	return replace("ReplaceConfig", cfg, func(p parts) any { return p.Config.value })
}

// ReplaceLockManager makes the graph give m wherever a LockManager is needed, and where a
// Locker is, if it is one.
func ReplaceLockManager(m lock.LockManager) fx.Option {
	opt := replace("ReplaceLockManager", m, func(p parts) any { return p.Locks.value })
	if _, ok := m.(lock.Locker); ok || arguments.IsNil(m) {
		return opt
	}
	// The module itself must not ask for a Locker, as that is an error now.
	return fx.Options(opt, fx.Decorate(func() unnamedLocker { return unnamedLocker{} }))
}

// ReplaceNotificationSystem makes the graph give s wherever a NotificationSystem is
// needed.
func ReplaceNotificationSystem(s notification.NotificationSystem) fx.Option {
	return replace("ReplaceNotificationSystem", s, func(p parts) any { return p.Notifications.value })
}

// replacement is what one of these options put into the graph.
type replacement struct {
	call   string
	value  any
	actual func(parts) any // what the graph has instead, if the replacement is ignored
}

// replacementsGroup holds the replacements. A value group reaches the whole
// application, a decoration only the module it is in and those inside: so the module
// can see a replacement that does not reach it.
const replacementsGroup = "cache.replacements"

func replace[T any](call string, value T, actual func(parts) any) fx.Option {
	if arguments.IsNil(value) {
		return fx.Error(fmt.Errorf("%w: %s: the value is nil", ErrInvalidOption, call))
	}
	r := replacement{call, value, actual}
	return fx.Options(
		onlyOnce(fmt.Sprintf("use cache.%s once", call)),
		// As fx.Replace, without parameters: the original is never made.
		fx.Decorate(func() T { return value }),
		fx.Provide(fx.Annotated{Group: replacementsGroup, Target: func() replacement { return r }}),
		needsModule(call),
	)
}

// refuseIgnored returns an error for a replacement that Fx accepts and then ignores, since the
// application would use another server than the one it names.
func refuseIgnored(all parts, in replacements) error {
	for _, r := range in.Replacements {
		if !same(r.value, r.actual(all)) {
			return fmt.Errorf("%w: %s has no effect where it stands, inside an fx.Module beside cache.Module: "+
				"pass it to fx.New itself", ErrInvalidOption, r.call)
		}
	}
	return nil
}

// unnamed is in the graph with cache.Module.
type unnamed struct{ included bool }

// needsModule refuses an option for the unnamed instance where there is none: applications
// that use cache.Named alone would take it for one about theirs.
func needsModule(call string) fx.Option {
	type module struct {
		fx.In
		Unnamed unnamed `optional:"true"`
	}
	return fx.Invoke(func(in module) error {
		if in.Unnamed.included {
			return nil
		}
		return fmt.Errorf("%w: %s has no effect without cache.Module; an instance of cache.Named takes its settings "+
			"as arguments, and its replacements by fx.Replace with the name", ErrInvalidOption, call)
	})
}

// same compares values of any type; those that Go cannot compare count as the same.
func same(a, b any) bool {
	if reflect.TypeOf(a) != reflect.TypeOf(b) {
		return false
	}
	return !reflect.ValueOf(a).Comparable() || a == b
}
