// Package lease decides which process loads a value that is missing. Whoever gets the lease on a key loads; the others wait
// for a message that the load has ended, which mostly has the value in it.
//
// A lease is a key beside the value's. It lasts for two seconds and is renewed while its holder loads, so that a holder that
// died delays the others by that much at most. Whatever stores or deletes a value revokes the lease on it, and a holder
// without its lease stores nothing: so no value is stored that was loaded before somebody else has written. For a while a
// failure takes the lease's place, in which nobody loads.
//
// All waiters of a process share one inbox, a channel on one connection. They enter it before they ask for the lease, so
// that they miss no message that follows; one that is lost all the same costs the rest of the lease.
package lease
