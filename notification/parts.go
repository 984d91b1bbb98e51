package notification

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"time"
	"weak"

	"github.com/compozy/cache/notification/internal/journal"
)

const (
	// maxPartsBytes is how much of the journal is kept in memory, and at least one part. Subscriptions that are behind by the
	// same and read at different speeds, or come one after the other, find theirs there.
	maxPartsBytes = 4 << 20
	// keepParts is for how long that is after the last of them has caught up.
	keepParts = time.Second
	// minShared is how many messages are remembered before those are forgotten that nobody has any more.
	minShared = 1 << 10
)

// part is a part of the journal that was read once and serves every subscription that is in it.
type part struct {
	generation uint64
	from, to   journal.Position // all events behind from, up to to, are in it
	entries    []journal.Entry
	payloads   []string // of the entries, once they were needed
	bytes      uint64
	offset     uint64 // of the journal's end when it was read
	more       bool   // there may be more behind it
	used       uint64 // the round in which it has served somebody last
}

// newPart makes a part of what was read behind a position when the connection had come to another one.
func newPart(read *journal.Part, from, limit journal.Position, generation uint64) *part {
	p := &part{
		generation: generation, from: from, to: from, entries: read.Entries, payloads: make([]string, len(read.Entries)),
		offset: read.Offset, more: read.More,
	}
	for i := range p.entries {
		p.to = p.entries[i].Pos
		p.bytes += p.entries[i].Size
	}
	if !p.more {
		// All that has passed on the connection was read, or is gone. An offset of from may be of another epoch.
		p.to = later(journal.Position{Ms: p.to.Ms, Offset: p.offset}, limit)
	}
	return p
}

// has reports whether a subscription at a position finds something in the part that has passed.
func (p *part) has(at, limit journal.Position) bool {
	return !at.Less(p.from) && at.Less(p.to) && at.Less(limit)
}

// behind returns the index of the first entry behind a position.
func (p *part) behind(at journal.Position) int {
	return sort.Search(len(p.entries), func(i int) bool { return at.Less(p.entries[i].Pos) })
}

// follows reports whether nothing is missing between a position and what the part has behind it. Where events of the part are
// in front of the position as well, it has to fit between the two by its offset, or it is of another epoch.
func (p *part) follows(at journal.Position) bool {
	i := p.behind(at)
	switch {
	case i == 0 && len(p.entries) == 0:
		return at.Offset == p.offset
	case i == 0:
		first := &p.entries[0]
		return first.Start() == at.Offset || at == justBefore(first.Pos) || first.Size == 0
	case at.Offset < p.entries[i-1].Pos.Offset:
		return false
	case i < len(p.entries):
		return at.Offset < p.entries[i].Pos.Offset || p.entries[i].Size == 0
	default:
		return p.more || at.Offset <= p.offset
	}
}

// payload returns the payload of an entry.
func (p *part) payload(entry int) string {
	if p.payloads[entry] == "" {
		p.payloads[entry] = p.entries[entry].Payload()
	}
	return p.payloads[entry]
}

// messages are those made from the journal that somebody still has in a buffer. Slow readers at different places need a part
// again and again, and each time get what others have got already, instead of a copy.
type messages struct {
	made map[shared]weak.Pointer[Message]
	most int // how many there may be before those are forgotten that are gone
}

// shared is what a message is made of: an event, and the name of those that it is for.
type shared struct {
	pos   journal.Position
	stamp string
	topic *topic
}

// of returns the message of an entry for a name.
func (ms *messages) of(p *part, entry int, t *topic, channel string) *Message {
	e := &p.entries[entry]
	key := shared{e.Pos, e.Stamp, t}
	if m := ms.made[key].Value(); m != nil {
		return m
	}
	m := newMessage(t.Name, channel, p.payload(entry), &e.Envelope)
	m.Recovered = true
	if len(ms.made) >= ms.most {
		ms.clean()
	}
	ms.made[key] = weak.Make(m)
	return m
}

// clean forgets the messages that are gone.
func (ms *messages) clean() {
	maps.DeleteFunc(ms.made, func(_ shared, m weak.Pointer[Message]) bool { return m.Value() == nil })
	ms.most = max(minShared, 2*len(ms.made))
}

// parts are the parts in memory.
type parts []*part

// find returns the part for a position, or nil.
func (ps parts) find(at, limit journal.Position) *part {
	for _, p := range ps {
		if p.has(at, limit) {
			return p
		}
	}
	return nil
}

// bytes returns how large they are together.
func (ps parts) bytes() (sum uint64) {
	for _, p := range ps {
		sum += p.bytes
	}
	return sum
}

// full reports whether there is no room for one more.
func (ps parts) full() bool { return ps.bytes() >= maxPartsBytes }

// add puts a part in, in place of those that have served nobody for the longest time if there are too many.
func (ps parts) add(p *part) parts {
	slices.SortFunc(ps, func(a, b *part) int { return cmp.Compare(b.used, a.used) })
	for len(ps) > 0 && ps.bytes()+p.bytes > maxPartsBytes {
		ps[len(ps)-1] = nil
		ps = ps[:len(ps)-1]
	}
	return append(ps, p)
}
