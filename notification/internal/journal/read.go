package journal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// partBytes is how large a part is to be. The server does nothing else meanwhile: that is a millisecond.
	partBytes = 1 << 20
	// maxEntries is how many entries a part has at most.
	maxEntries = 500
	// carefulEntries is how many it has at most where they may suddenly be large, and are therefore read one by one.
	carefulEntries = 32
	// carefulBytes is how much more of the journal there has to be for that: all of it may come in one part.
	carefulBytes = 8 << 20
	// carefulAfter is how old what is known of the end of the journal has to be for that. It may have grown since.
	carefulAfter = time.Second
	// minUnread is how often a single entry is asked for before it counts as unreadable.
	minUnread = 3
	// minPatience is how long a part is waited for at least, unless the client's own time-out is shorter.
	minPatience = time.Second
)

// ErrUnreadable says that an entry does not arrive, however often it is asked for: it is too large for the connection
// and the time that the client waits.
var ErrUnreadable = errors.New("notification: an event in the journal cannot be read")

// Part is a part of the journal.
type Part struct {
	Entries []Entry
	More    bool   // there may be more behind it
	Epoch   string // whose entries they are; empty if the state is gone
	Offset  uint64 // bytes ever appended in that epoch when it was read
}

// Follows reports whether nothing is missing between a position of the same epoch and this part, which was read from there.
func (p *Part) Follows(at Position) bool {
	if len(p.Entries) == 0 {
		return p.Offset == at.Offset
	}
	first := &p.Entries[0]
	return first.Pos == at || first.Start() == at.Offset
}

// Reader reads a journal in parts. It learns from each how many entries to ask for next, so that the server and the
// connection are never busy with a part for long. It is not safe for concurrent use.
type Reader struct {
	journal  *Journal
	patience time.Duration

	most int       // entries at once; fewer after a part that did not arrive
	mean uint64    // bytes of an entry of the last part, 0 before the first one
	end  uint64    // offset of the journal's end at that time
	last time.Time // when that part arrived
	unread
}

// unread counts how often, and for how long, the part at a position was waited for in vain.
type unread struct {
	at       Position
	attempts int
	single   int           // attempts to get a single entry
	waited   time.Duration // for that
}

// NewReader returns a reader that calls an entry unreadable after several attempts at it alone, and not before they have
// taken as long as given. For that long it waits for a part at most, if the client heeds contexts; for a second at least.
func (j *Journal) NewReader(patience time.Duration) *Reader {
	return &Reader{journal: j, patience: patience, most: maxEntries}
}

// From reads a part that begins with the entry at a position, if there is one. A zero position is the beginning. An error
// is worth another attempt unless [ErrUnreadable] or a refusal of the server; that asks for less if it may help.
func (r *Reader) From(ctx context.Context, on Server, at Position) (Part, error) {
	return r.read(ctx, on, at, at.String())
}

// After is From without the entry at the position itself.
func (r *Reader) After(ctx context.Context, on Server, at Position) (Part, error) {
	if at == End() {
		return r.From(ctx, on, at) // Redis takes it for an error to ask for what is behind
	}
	return r.read(ctx, on, at, "("+at.String())
}

func (r *Reader) read(ctx context.Context, on Server, at Position, start string) (Part, error) {
	if r.unread.at != at {
		r.unread = unread{at: at}
	}
	count, careful := r.count(at)
	began := time.Now()
	attempt, cancel := context.WithTimeout(ctx, max(r.patience, minPatience)) // the client may wait without end
	defer cancel()
	read := r.journal.part
	if careful {
		read = r.journal.fewEntries
	}
	part, err := read(attempt, on, start, count)
	switch {
	case err == nil:
		r.arrived(&part)
		return part, nil
	case TimedOut(err) && !ended(ctx):
		return Part{}, r.failed(err, count, time.Since(began))
	default:
		return Part{}, err
	}
}

// count returns how many entries to ask for at a position, and whether they are to be read one by one: where there is much
// more of the journal, or it is not known how much, those that follow may be far larger than the last ones.
func (r *Reader) count(at Position) (count int, careful bool) {
	if r.attempts > 1 {
		return 1, false // it is at this position that something large begins
	}
	count = r.most
	if r.mean > 0 {
		count = min(count, max(1, int(min(partBytes/r.mean, maxEntries))))
	}
	if r.mean == 0 || r.end <= at.Offset || r.end-at.Offset > carefulBytes || time.Since(r.last) > carefulAfter {
		count = min(count, carefulEntries)
		careful = count > 1
	}
	return count, careful
}

// arrived learns from a part. Its entries tell how large others are; and after an attempt at too many the number grows slowly,
// since each such attempt takes long.
func (r *Reader) arrived(p *Part) {
	r.unread, r.last = unread{}, time.Now()
	r.most = min(r.most+r.most/8+1, maxEntries)
	r.end = p.Offset
	if n := uint64(len(p.Entries)); n > 0 {
		bytes := uint64(0)
		for i := range p.Entries {
			bytes += p.Entries[i].Size
		}
		r.mean = max(1, bytes/n)
	}
}

// failed makes the next part smaller, and returns the error of the attempt: ErrUnreadable once there were enough.
func (r *Reader) failed(err error, count int, took time.Duration) error {
	r.attempts++
	if count > 1 {
		r.most = max(1, count/4)
		return err
	}
	r.single++
	r.waited += took
	if r.single < minUnread || r.waited < r.patience {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreadable, err)
}

// TimedOut reports whether a reply did not arrive in time, as one that is too large would not.
func TimedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() && !redisx.IsUnsent(err)
}

// ended reports whether the time of a context is up. A connection that has the same deadline may have noticed it first.
func ended(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// part reads entries by plain commands: a script would cost the server several times as much.
func (j *Journal) part(ctx context.Context, on Server, start string, count int) (Part, error) {
	here := j.here.Full(ctx, j.here.Command(ctx, []string{j.keys.Journal, j.keys.State}, on.Listened))
	entries := redis.NewCmd(ctx, "xrange", j.keys.Journal, start, "+", "count", count)
	if err := transact(ctx, on.Client, here, entries); err != nil {
		return Part{}, err
	}
	state, _ := here.Val().([]any)
	rows, isArray := entries.Val().([]any)
	if len(state) != 2 || !isArray {
		return Part{}, fmt.Errorf("%w: %T and %T instead of entries", ErrProtocol, here.Val(), entries.Val())
	}
	return newPart(state, rows, len(rows) == count)
}

// fewEntries reads entries one by one, and no more of them than fill a part.
func (j *Journal) fewEntries(ctx context.Context, on Server, start string, count int) (Part, error) {
	reply, err := j.few.Run(ctx, on.Client.Process, []string{j.keys.Journal, j.keys.State}, on.Listened, start, count, partBytes)
	if err != nil {
		return Part{}, err
	}
	values, _ := reply.([]any)
	if len(values) != 4 {
		return Part{}, fmt.Errorf("%w: %T instead of entries", ErrProtocol, reply)
	}
	rows, isArray := values[3].([]any)
	if !isArray {
		return Part{}, fmt.Errorf("%w: %T instead of entries", ErrProtocol, values[3])
	}
	return newPart(values[:2], rows, values[2] == int64(1))
}

// newPart makes a part of epoch and offset, and of entries as the server returns them.
func newPart(state, rows []any, more bool) (Part, error) {
	part := Part{Entries: make([]Entry, 0, len(rows)), More: more}
	part.Epoch, _ = state[0].(string)
	offset, _ := state[1].(string)
	part.Offset, _ = strconv.ParseUint(offset, 10, 64) // 0 without a state
	for _, row := range rows {
		e, err := ParseEntry(row)
		if err != nil {
			return Part{}, err
		}
		part.Entries = append(part.Entries, e)
	}
	return part, nil
}
