// Package journal is the stream of events in Redis as notification systems read it: positions and keys, how an event is
// written in a payload and in an entry, what a journal is like at a moment, reading it in parts, and whether it is still the
// one known before. It knows no connection and no subscription.
//
// An entry's ID carries the number of bytes that were ever appended to the journal. So an entry tells by itself where the
// one before it ended, and an event at that offset is known to be the last before it, without any clock and though the
// journal may have been trimmed, have expired or have been lost in between.
package journal
