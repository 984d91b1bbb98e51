package journal

import "strings"

// Identity tells one server, and one history of its data, from another. What the server does not tell is empty.
type Identity struct {
	Run      string // server process
	Repl     string // replication history
	Before   string // the history it continued, if it took over from another server
	Role     string // master or slave
	LinkDown bool   // it is a replica that has lost its master, or does not have all of its data yet
	Node     string // ID in a cluster, which outlives restarts
}

// change returns why events that one server had accepted may be missing on another that was reached later, or on the same
// one; none if it has certainly all of them.
func (i Identity) change(later Identity) Reason {
	switch {
	case i.continues(later) || i.movedTo(later):
		return None
	case i.Run != later.Run && !later.replica() && later.tookOverFromNone():
		return Restarted
	default:
		return Failover
	}
}

// continues reports whether the later identity is certainly of the same history.
func (i Identity) continues(later Identity) bool {
	if i.Repl == later.Repl {
		// A master that is made a replica keeps its ID until it has the data of the other one.
		return i.replica() || !later.replica() || i.Run != later.Run
	}
	// A master takes a new ID without any change of its data when its first replica arrives and some time after the last has
	// left. It then names no history it continued, which a server that took over does. Neither does a replica, which may have
	// got all its data from another master.
	return i.Run == later.Run && later.Role == "master" && later.tookOverFromNone()
}

// movedTo reports whether the later identity is that of another master of the same cluster, which did not get the journal by
// taking over from one: its slot was moved, and that loses nothing.
func (i Identity) movedTo(later Identity) bool {
	return i.Node != "" && later.Node != "" && i.Node != later.Node &&
		i.Role == "master" && later.Role == "master" && later.tookOverFromNone()
}

func (i Identity) replica() bool { return i.Role == "slave" }

func (i Identity) tookOverFromNone() bool { return strings.Trim(i.Before, "0") == "" }

// HasPredecessor reports whether another node of its cluster was the master before, and may be alive. That one may still
// execute what was sent to it, and the cluster carries what it publishes to the subscribers of this one.
func (i Identity) HasPredecessor() bool { return i.Node != "" && !i.tookOverFromNone() }
