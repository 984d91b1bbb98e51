package notification

import (
	"slices"
	"sort"

	"github.com/compozy/cache/notification/internal/journal"
)

const (
	// maxParts is how many parts of the journal are kept, each of about a megabyte. Subscriptions that are behind by the same
	// and read at different speeds find theirs among them.
	maxParts = 4
	// maxShared is how many messages a part remembers in order to share them.
	maxShared = 1 << 16
)

// part is a part of the journal that was read once and serves every subscription that is in it.
type part struct {
	generation uint64
	from, to   journal.Position // all events behind from, up to to, are in it
	entries    []journal.Entry
	payloads   []string // of the entries, once they were needed
	messages   map[shared]*Message
	offset     uint64 // of the journal's end when it was read
	more       bool   // there may be more behind it
	used       uint64 // the round in which it has served somebody last
}

// shared is what a message is made of.
type shared struct {
	entry int
	topic *topic
}

// newPart makes a part of what was read behind a position when the connection had come to another one.
func newPart(read *journal.Part, from, limit journal.Position, generation uint64) *part {
	p := &part{
		generation: generation, from: from, to: from, entries: read.Entries, payloads: make([]string, len(read.Entries)),
		messages: make(map[shared]*Message), offset: read.Offset, more: read.More,
	}
	for i := range p.entries {
		p.to = later(p.to, p.entries[i].Pos)
	}
	if !p.more {
		// All that has passed on the connection was read, or is gone.
		p.to = later(later(p.to, journal.Position{Offset: p.offset}), limit)
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

// follows reports whether nothing is missing between a position and what the part has behind it.
func (p *part) follows(at journal.Position) bool {
	i := p.behind(at)
	switch {
	case i > 0:
		return true // an event in front of it is there
	case len(p.entries) == 0:
		return at.Offset == p.offset
	default:
		first := &p.entries[0]
		return first.Start() == at.Offset || first.Pos.Offset == at.Offset+1 || first.Size == 0
	}
}

// message returns the message of an entry for a name, which all subscriptions to it share.
func (p *part) message(entry int, t *topic, channel string) *Message {
	key := shared{entry, t}
	if m := p.messages[key]; m != nil {
		return m
	}
	if p.payloads[entry] == "" {
		p.payloads[entry] = p.entries[entry].Payload()
	}
	if len(p.messages) >= maxShared {
		clear(p.messages)
	}
	m := newMessage(t.Name, channel, p.payloads[entry], &p.entries[entry].Envelope)
	m.Recovered = true
	p.messages[key] = m
	return m
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

// add puts a part in, in place of the one that has served nobody for the longest time if there are too many.
func (ps parts) add(p *part) parts {
	if len(ps) >= maxParts {
		oldest := slices.IndexFunc(ps, func(q *part) bool {
			return q == slices.MinFunc(ps, func(a, b *part) int { return int(int64(a.used) - int64(b.used)) }) //nolint:gosec // rounds
		})
		ps = slices.Delete(ps, oldest, oldest+1)
	}
	return append(ps, p)
}
