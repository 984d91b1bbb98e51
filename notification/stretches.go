package notification

import (
	"slices"

	"github.com/compozy/cache/notification/internal/journal"
)

// stretch is a stretch of the journal: all events behind a position, up to another one.
type stretch struct{ from, to journal.Position }

// stretches are stretches of the journal, in its order and apart from each other.
type stretches []stretch

// maxStretches is how many there may be. Usually it is one; each place where somebody begins to read adds one, until those in front of
// it have been read.
const maxStretches = 64

// have reports whether an event is in one of them.
func (ss stretches) have(pos journal.Position) bool {
	return slices.ContainsFunc(ss, func(s stretch) bool { return s.from.Less(pos) && !s.to.Less(pos) })
}

// add joins a stretch with those that it touches. If there are too many, the first is forgotten.
func (ss stretches) add(added stretch) stretches {
	i := 0
	for i < len(ss) && ss[i].to.Less(added.from) {
		i++
	}
	j := i
	for j < len(ss) && !added.to.Less(ss[j].from) {
		if ss[j].from.Less(added.from) {
			added.from = ss[j].from
		}
		if added.to.Less(ss[j].to) {
			added.to = ss[j].to
		}
		j++
	}
	ss = slices.Replace(ss, i, j, added)
	if len(ss) > maxStretches {
		ss = slices.Delete(ss, 0, 1)
	}
	return ss
}

// upTo leaves of them what is not behind a position.
func (ss stretches) upTo(pos journal.Position) stretches {
	ss = slices.DeleteFunc(ss, func(s stretch) bool { return !s.from.Less(pos) })
	if n := len(ss); n > 0 && pos.Less(ss[n-1].to) {
		ss[n-1].to = pos
	}
	return ss
}
