package entry

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"time"
)

// Entry is the content of a key. Its text form is
//
//	cs1 <kind><codec><compression> <version> <until>[+<ttl>] <fence> <write> <tags>\n<payload>
//
// so that redis-cli shows what is there, and scripts read it without a library that some servers lack.
type Entry struct {
	Kind        Kind
	Codec       byte // the codec's letter, Plain where there is no payload
	Compression byte // the compression's letter, Plain for none
	// Version is the server's clock in microseconds at the last write, or one more than the version before where that
	// is larger. It is positive.
	Version int64
	// Until is when the value stops being fresh, by the server's clock in microseconds, and 0 if it does not.
	Until int64
	// TTL is for how long the value was to be fresh when it was written or touched, 0 if that is not known.
	TTL time.Duration
	// Fence is the largest fencing token that a write carried, 0 if none did.
	Fence int64
	// Write names the last write, so that its repetition is recognised.
	// See [NewID].
	Write string
	// Tags are the tags of the value, "" if there are none. What they look like is not this package's business, but
	// they consist of visible ASCII characters.
	Tags string
	// Payload is the encoded value. It shares memory with what was parsed.
	Payload []byte
}

// NewID returns 16 characters that nobody has used before, to name a write, an epoch or a lease.
func NewID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // which does not fail
	return hex.EncodeToString(id[:])
}

// Kind is what an entry stands for.
type Kind byte

const (
	// Value is a value of a Cache.
	Value Kind = 'v'
	// Absent says that a Cache knows that there is no value.
	Absent Kind = 'a'
	// State is a value of a State.
	State Kind = 's'
	// Deleted keeps the version and the fence of a value of a State that was deleted.
	Deleted Kind = 'd'
)

const (
	// Plain is the letter for a payload that is not compressed, and the text for a field that is empty.
	Plain byte = '-'
	// MaxNumber is the largest number in an entry: scripts count in floating point, which is exact up to there.
	MaxNumber = 1<<53 - 1

	magic     = "cs1 " // begins every entry; a form that differs gets another number
	maxDigits = 16     // of MaxNumber
)

// ErrForeign means that something else has written the key.
var ErrForeign = errors.New("not written by this version of the store")

// Parse reads the content of a key.
func Parse(raw []byte) (Entry, error) {
	head, payload, ok := bytes.Cut(raw, []byte{'\n'})
	if !ok || !bytes.HasPrefix(head, []byte(magic)) {
		return Entry{}, ErrForeign
	}
	var fields [6][]byte
	rest := head[len(magic):]
	for i := range fields {
		fields[i], rest, ok = bytes.Cut(rest, []byte{' '})
		if last := i == len(fields)-1; ok == last || !visible(fields[i]) {
			return Entry{}, ErrForeign
		}
	}
	if len(fields[0]) != 3 {
		return Entry{}, ErrForeign
	}
	e := Entry{
		Kind: Kind(fields[0][0]), Codec: fields[0][1], Compression: fields[0][2],
		Write: text(fields[4]), Tags: text(fields[5]), Payload: payload,
	}
	switch e.Kind {
	case Value, Absent, State, Deleted:
	default:
		return Entry{}, ErrForeign
	}
	until, span, spans := bytes.Cut(fields[2], []byte{'+'})
	if !spans {
		span = []byte{'0'}
	}
	var ttl int64
	for _, field := range []struct {
		text []byte
		to   *int64
	}{{fields[1], &e.Version}, {until, &e.Until}, {span, &ttl}, {fields[3], &e.Fence}} {
		if *field.to, ok = number(field.text); !ok {
			return Entry{}, ErrForeign
		}
	}
	e.TTL = time.Duration(min(ttl, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
	if e.Version == 0 {
		return Entry{}, ErrForeign
	}
	return e, nil
}

// visible reports whether a field consists of visible ASCII characters, at least one.
func visible(field []byte) bool {
	for _, c := range field {
		if c < '!' || c > '~' {
			return false
		}
	}
	return len(field) > 0
}

// number reads a field of digits.
func number(field []byte) (int64, bool) {
	if len(field) > maxDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(string(field), 10, 64) // which takes no sign
	return int64(n), err == nil && n <= MaxNumber      //nolint:gosec // it has 16 digits
}

// text reads a field that may be empty.
func text(field []byte) string {
	if len(field) == 1 && field[0] == Plain {
		return ""
	}
	return string(field)
}

// FreshAt reports whether the value is fresh at a time of the server's clock.
func (e *Entry) FreshAt(now int64) bool { return e.Until == 0 || now < e.Until }

// AgeAt returns how long ago the entry was written at a time of the server's clock.
func (e *Entry) AgeAt(now int64) time.Duration {
	return max(time.Duration(now-e.Version)*time.Microsecond, 0)
}

// LeftAt returns how long the value will be fresh at a time of the server's clock: 0 or less if it is not any more, and
// ok false if there is no limit.
func (e *Entry) LeftAt(now int64) (left time.Duration, ok bool) {
	if e.Until == 0 {
		return 0, false
	}
	return time.Duration(e.Until-now) * time.Microsecond, true
}

// HalfOver reports whether less than half of the TTL is left at a time of the server's clock, but some of it.
func (e *Entry) HalfOver(now int64) bool {
	left, limited := e.LeftAt(now)
	return limited && left > 0 && left < e.TTL/2
}
