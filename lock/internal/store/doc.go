// Package store keeps locks on one Redis: a server, what Sentinel says is the master, or a cluster. It knows what its
// scripts do and when to send a command again, and nothing of holders, leases or majorities.
//
// A lock is the key that contains its holder's value and expires with it; Tries says how values tell what is known from
// what may still arrive. Beside it are the fence, which is the last fencing token; the queue, a sorted set of those who
// wait, by arrival; and the reservation, which after a release keeps the lock for the first of them for a moment. A message
// to a waiter is a hint to ask. Only a script's reply makes a holder.
package store
