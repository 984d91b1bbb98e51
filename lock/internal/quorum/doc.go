// Package quorum keeps locks on several independent servers, as Redlock describes: a lock is held when a majority has
// granted it. It asks all of them in parallel and returns when the majority has decided; where it acquires, releases or
// refreshes, redsync asks and counts.
// It makes the majority agree on the fencing token, and brings a lock back to a server that has forgotten it.
//
// A reply to an extension counts if the server has made the lock last for its TTL. One that does not have it, or has not
// confirmed that it does, is not counted; where a majority confirms the lock it is set there for a first grant, and extended
// with the others once that is known.
//
// What a server may have of a lock that was not granted is removed in the background. A server that is late may set a
// lock that was released meanwhile: that key ends by itself, as it lasts for a first grant only.
package quorum
