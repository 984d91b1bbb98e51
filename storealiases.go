package cache

import (
	"time"

	"go.uber.org/fx"

	"github.com/compozy/cache/providers"
	"github.com/compozy/cache/store"
)

// The names of package store. Its options, other than those that many writes of a State need, stay there: store.WithStale
// and so on. Without Fx store.NewCache and store.NewState make what NewCache and NewState provide.

type (
	// Store is what caches and states of one Redis share.
	Store = store.Store
	// StoreCache keeps values that can be loaded again: a store.Cache, beside which there is the [Cache] of SetupCache.
	StoreCache[V any] = store.Cache[V]
	// State keeps versioned values that several processes change safely.
	State[V any] = store.State[V]
	// Item is a value and what is known of it: version, source, age, whether it is stale and why.
	Item[V any] = store.Item[V]
	// Version tells the writes of a key apart; 0 stands for no value.
	Version = store.Version
	// Source is where a value came from.
	Source = store.Source
	// Codec turns values into bytes and back; JSON is the default.
	Codec = store.Codec
	// StoreOption is an option of NewCache, NewState and of calls: store.WithTTL and so on.
	StoreOption = store.Option
	// ConflictError says what a write has found instead of what it expected. It matches ErrConflict or ErrExists.
	ConflictError[V any] = store.ConflictError[V]
	// ManyError says which of several keys have failed.
	ManyError = store.ManyError
	// UnavailableError is a failure of Redis in the store. It matches ErrUnavailable.
	UnavailableError = store.UnavailableError
)

// The sources of values. Package store says more on each.
const (
	SourceNear   = store.SourceNear
	SourceRedis  = store.SourceRedis
	SourceLoaded = store.SourceLoaded
	SourceStale  = store.SourceStale
)

// Errors of the store.
var (
	// ErrNotFound means that there is no value. A loader returns it to say so.
	ErrNotFound = store.ErrNotFound
	// ErrExists means that Create has found a value.
	ErrExists = store.ErrExists
	// ErrConflict means that another version is there than the one that a write expected.
	ErrConflict = store.ErrConflict
	// ErrFenced means that a write with a larger fencing token was there before.
	ErrFenced = store.ErrFenced
	// ErrUncertain means that a write may have been done, or may be done yet.
	ErrUncertain = store.ErrUncertain
	// ErrTooLarge means that a value is larger than store.WithMaxSize allows.
	ErrTooLarge = store.ErrTooLarge
	// ErrCodec means that what is stored is no value of this type, or that a value cannot be encoded.
	ErrCodec = store.ErrCodec
	// ErrUnavailable means that Redis could not be reached or has refused a command.
	ErrUnavailable = store.ErrUnavailable
	// ErrOverloaded means that too many loaders run while Redis does not answer.
	ErrOverloaded = store.ErrOverloaded
	// ErrLoad means that the loader failed in another process, or a moment ago.
	ErrLoad = store.ErrLoad
	// ErrLoadTimeout means that the loader took too long.
	ErrLoadTimeout = store.ErrLoadTimeout
	// ErrPanic means that the loader, a codec or a hook of the client panicked.
	ErrPanic = store.ErrPanic
	// ErrStoreClosed means that the store was closed.
	ErrStoreClosed = store.ErrClosed
)

// WithTTL is store.WithTTL: how long a value lasts, in NewCache and NewState or in a call that writes.
func WithTTL(d time.Duration) StoreOption { return store.WithTTL(d) }

// IfVersion makes Put or Delete of a State fail with ErrConflict unless the value is in this version; 0 stands for no value.
func IfVersion(v Version) StoreOption { return store.IfVersion(v) }

// WithFence makes a write of a State fail with ErrFenced if one with a larger token was there before. Pass the token of the
// lock that protects the value.
func WithFence(token int64) StoreOption { return store.WithFence(token) }

// NewCache provides a *StoreCache[V], which is a *store.Cache[V], whose values last 5 minutes unless store.WithTTL says
// otherwise. Processes that use the same name share them. A name or an option that cannot be used is an error of fx.New that
// names the cache, and matches ErrInvalidArgument.
//
// It is made on the *Store of [Module] or, if it is passed to [Named], on that of the named instance, and provided under
// the name of that instance then:
//
//	cache.Named("sessions", cache.NewCache[Session]("sessions"))
//
// An application has one for each type of value. Where several are to have the same, a name tag tells them apart:
//
//	fx.Provide(fx.Annotated{Name: "archive", Target: func(s *cache.Store) (*cache.StoreCache[User], error) {
//		return store.NewCache[User](s, "archive")
//	}})
func NewCache[V any](name string, opts ...StoreOption) fx.Option {
	return providers.NewCache[V](name, opts...)
}

// NewState provides a *State[V], which is a *store.State[V], whose values last until they are deleted unless store.WithTTL
// says otherwise. All else is as with [NewCache]; store.NewState is for a second one of the same type.
func NewState[V any](name string, opts ...StoreOption) fx.Option {
	return providers.NewState[V](name, opts...)
}
