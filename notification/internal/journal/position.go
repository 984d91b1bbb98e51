package journal

import (
	"cmp"
	"math"
	"strconv"
	"strings"
)

// Position is the ID of an entry. It carries an offset, so that two positions and one size tell whether anything was
// between two entries; see [Entry.Start].
type Position struct {
	Ms     uint64 // the server's time in milliseconds, or that of the entry before if the clock is behind it
	Offset uint64 // bytes ever appended to the journal in this epoch, up to and including this entry
}

// End is behind every entry.
func End() Position { return Position{math.MaxUint64, math.MaxUint64} }

// Compare orders positions as Redis orders IDs.
func (p Position) Compare(q Position) int {
	if p.Ms != q.Ms {
		return cmp.Compare(p.Ms, q.Ms)
	}
	return cmp.Compare(p.Offset, q.Offset)
}

// Less reports whether p is before q.
func (p Position) Less(q Position) bool { return p.Ms < q.Ms || p.Ms == q.Ms && p.Offset < q.Offset }

// IsZero reports whether p is before every entry.
func (p Position) IsZero() bool { return p == Position{} }

// String returns the ID.
func (p Position) String() string {
	return strconv.FormatUint(p.Ms, 10) + "-" + strconv.FormatUint(p.Offset, 10)
}

// ParsePosition reads an ID. It gives false for one that no journal can have.
func ParsePosition(id string) (p Position, ok bool) {
	ms, offset, found := strings.Cut(id, "-")
	if !found || len(ms) > 20 || len(offset) > 20 {
		return Position{}, false
	}
	a, errMs := strconv.ParseUint(ms, 10, 64)
	b, errOffset := strconv.ParseUint(offset, 10, 64)
	if errMs != nil || errOffset != nil {
		return Position{}, false
	}
	return Position{a, b}, true
}
