// Package group lets the members of a group, in any number of processes, share the events of a journal. It is what a group
// does on the server and in a member; it knows neither messages nor subscriptions.
//
// An event is in one of four states. It is still in the journal, behind what the group knows of it; or held by the group,
// which has a copy; or handled and gone; or given up and in the stream of dead events. One member, the leader, reads the
// journal for all and gives what matches to the group. What the group holds is due at a time by the server's clock: now if
// it is new, later if it failed or if a member is at work on it. A member takes what is due, and that puts it off; so
// repetitions after a failure, and taking over from a member that died, are one and the same.
//
// All the keys of a group share the journal's hash tag. They have no time to live, so that a group that nobody belongs to
// for a while keeps its events. The leader's lease decides nothing but who does the work: every step of a leader names what it
// took for known and is refused if that has changed.
package group
