package journal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// EntryOverhead is what an entry counts in offsets beside the bytes of its two fields: about what the server needs for it.
// The publish scripts count the same.
const EntryOverhead = 64

// ErrProtocol says that the server answered what it never should.
var ErrProtocol = errors.New("notification: unexpected reply from Redis")

// Entry is one event in the journal.
type Entry struct {
	Envelope
	Value    string   // the payload behind its event ID
	Channels []string // those it was published to
	Size     uint64   // what it adds to the offset
}

// Start returns the offset of the entry before this one. If that is the offset of an event one knows, nothing was between
// the two.
func (e *Entry) Start() uint64 {
	if e.Size > e.Pos.Offset { // nothing of ours
		return e.Pos.Offset
	}
	return e.Pos.Offset - e.Size
}

// Payload returns what was published.
func (e *Entry) Payload() string { return Seal(e.ID, e.Value) }

// ParseEntry reads one element of the reply to XRANGE. An entry that no publish script wrote has no channels and is
// therefore delivered to nobody.
func ParseEntry(row any) (e Entry, err error) {
	pair, _ := row.([]any)
	if len(pair) != 2 {
		return Entry{}, fmt.Errorf("%w: %T instead of an entry", ErrProtocol, row)
	}
	id, _ := pair[0].(string)
	fields, _ := pair[1].([]any)
	pos, ok := ParsePosition(id)
	if !ok {
		return Entry{}, fmt.Errorf("%w: event ID %q", ErrProtocol, id)
	}
	e.ID, e.Pos = id, pos
	if len(fields) != 4 {
		return e, nil
	}
	key, _ := fields[1].(string)
	e.Value, _ = fields[3].(string)
	e.Size = uint64(len(key) + len(e.Value) + EntryOverhead)
	if _, rest, ok := e.openValue(e.Value); ok {
		e.detach(e.Value[:len(e.Value)-len(rest)])
		e.Channels = Channels(key)
	}
	return e, nil
}

// parseHead reads one element of the reply of heads.lua: an entry without its value and its channels, nil if there is none.
func parseHead(row any) (*Entry, error) {
	if row == nil {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	head, _ := row.([]any)
	if len(head) != 3 {
		return nil, fmt.Errorf("%w: %T instead of the head of an entry", ErrProtocol, row)
	}
	size, _ := head[1].(int64)
	fields := []any{}
	if size > 0 {
		fields = []any{"k", "", "v", head[2]}
	}
	e, err := ParseEntry([]any{head[0], fields})
	if err != nil {
		return nil, err
	}
	e.Value, e.Channels, e.Size = "", nil, uint64(size) //nolint:gosec // not negative
	return &e, nil
}

// AppendKey appends what identifies an event in the journal besides its position: the publisher's own ID for it, and its
// channels, with their lengths, as a name may contain any byte.
func AppendKey(b []byte, publisher string, number uint64, channels []string) []byte {
	b = append(b, publisher...)
	b = append(b, '.')
	b = strconv.AppendUint(b, number, 10)
	for _, channel := range channels {
		b = append(b, '\n')
		b = strconv.AppendInt(b, int64(len(channel)), 10)
		b = append(b, ':')
		b = append(b, channel...)
	}
	return b
}

// OwnID returns the publisher's own ID in a key.
func OwnID(key string) string {
	id, _, _ := strings.Cut(key, "\n")
	return id
}

// Channels returns the channels in a key, none if it is malformed.
func Channels(key string) []string {
	_, rest, found := strings.Cut(key, "\n")
	if !found {
		return nil
	}
	channels := make([]string, 0, 1+strings.Count(rest, "\n"))
	for rest != "" {
		digits, after, ok := strings.Cut(rest, ":")
		length, err := strconv.Atoi(digits)
		if !ok || err != nil || length < 0 || length > len(after) {
			return nil
		}
		channels = append(channels, after[:length])
		rest = strings.TrimPrefix(after[length:], "\n")
	}
	return channels
}
