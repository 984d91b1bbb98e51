// Package providers puts the parts of the cache module together: for Fx by [Module] and
// [Named], and for cache.SetupCache by the methods of [Instance], which both use.
// Applications reach it through package cache.
//
// # What it decides
//
// [Resolve] chooses the configuration of an instance: what the application set, or else
// the environment. It remembers which in a [Source], for the error of a start that fails,
// and refuses settings that contradict each other ([ErrConflictingOptions]).
//
// [Instance.Redis], [Instance.Locks] and [Instance.Notifications] turn the configuration
// into options of the packages client, lock and notification, append the hooks of package
// lifecycle, and return a [Part]: the thing made, its health checks and its metrics.
//
// In the graph of Fx, what would be ignored, or accepted and fail later, is refused with
// [ErrInvalidOption]: a value that is nil, a replacement that does not reach the module, an
// option for the unnamed instance where there is none, a Config by value.
//
// # One world of locks
//
// The Locker is made of the LockManager that the graph has, so that a replacement or a
// decoration of it reaches both; one of the Locker alone is refused. A LockManager that is
// no Locker is refused where something asks for a Locker: at once if ReplaceLockManager
// has put it there, at the first use if a decorator has, which runs when the graph is fixed already.
//
// # Names
//
// The tags that Fx reads are fixed at compile time, the names of instances are not.
// Constructors therefore take private inputs without a name, which inputOf fills from
// what the graph has under the instance's name; the unnamed instance and all named ones
// share them. Constructors whose name begins with "use" are named for the error of Fx
// about a type that is provided twice, where the name is all that a reader gets.
package providers
