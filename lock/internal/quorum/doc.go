// Package quorum keeps locks on several independent servers, as Redlock describes: a lock is held when a majority has
// granted it. It asks all of them in parallel and returns when the majority has decided; where it acquires, releases or
// refreshes, redsync asks and counts.
// It makes the majority agree on the fencing token, and brings a lock back to a server that has forgotten it.
//
// A reply to an extension counts if the server has made the lock last for its TTL. One that does not have it, or has not
// confirmed that it does, is not counted. Where a majority confirms the lock such a server is mended: the lock is set there
// for a first grant, and extended once that is confirmed. A server that fails, whatever it was asked, is mended when the
// caller next calls Mend; what that does counts for nothing before the next extension.
//
// Whoever sends a command cleans up after it, in the background, as soon as two things are known: that nobody wants the
// lock, and how the command has ended. A vote does that for what it has asked, an acquisition that is late also after its
// lock was released or lost (stragglers); the store does it for what Mend has asked (Claim.End). Release, ReleaseAll and Reap
// say first that nobody wants the lock, and then remove it; so does the end of an acquisition that was not granted, for what
// it has got. A command that arrives when all that is over leaves a key that ends by itself, as it sets the lock for a first
// grant only, and no extension finds it.
package quorum
