// Package feed is the one connection through which a process listens to Redis, for all of its subscriptions.
//
// A [Feed] keeps Redis asked for the names that are wanted, connects again whenever the connection is lost, and passes
// what arrives to a [Sink], in the order of the connection. It knows no subscriptions and no journal.
//
// # Sessions
//
// A [Session] is the time between a connect and the cut that ends it. It begins with a channel of its own, through which
// heartbeats come: only they show that the server still delivers. Then the names are asked for, as fast as Redis answers.
// The session is up once every name it began with was answered for and a heartbeat has come back.
//
// Heartbeats, and what is read beside the connection, go through small clients that belong to the session. Whatever the
// application does with its own pool stops neither. Each connection they make is asked whether it leads to the server
// that delivers; if it does not, the session ends, and the next one goes where the address leads by then.
//
// In a Cluster the session is on the master that has the journal. SSUBSCRIBE makes that node say when it has it no longer.
//
// # Goroutines
//
// There are three, whatever the number of names: one connects and reads, one asks for names, one sends heartbeats.
package feed
