package notification

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/glob"

	"github.com/compozy/cache/internal/redisx"
)

//go:embed state.lua
var stateSource string

//go:embed read.lua
var readSource string

// originTTL is how long the mark of a data set stays when nobody subscribes.
const originTTL = 7 * 24 * time.Hour

// errProtocol says that a script answered what it never should.
var errProtocol = errors.New("notification: unexpected reply from Redis")

// journal reads the stream that the publish script writes.
type journal struct {
	client redis.UniversalClient
	keys   keys
	state  *redisx.Script
	read   *redisx.Script
	beat   *redisx.Script // sends a heartbeat that says nothing of the journal

	// listened is a channel that somebody listens to on the server to be read from. Empty means any server.
	listened string
	// patience is for how long to read the same; nil is for ever.
	patience *patience
}

func newJournal(client redis.UniversalClient, k keys) *journal {
	return &journal{
		client: client, keys: k, state: redisx.NewScript(stateSource), read: redisx.NewScript(readSource),
		beat: redisx.NewScript("return redis.call('PUBLISH', ARGV[1], ARGV[2])"),
	}
}

// beside returns the journal on the server where somebody listens to the channel. After a failover, connections of one
// client may lead to different servers for a while; calls that come to another one fail with an error for which
// elsewhere is true.
func (j *journal) beside(channel string) *journal {
	other := *j
	other.listened = channel
	return &other
}

// within returns the journal, to be read with so much patience.
func (j *journal) within(p *patience) *journal {
	other := *j
	other.patience = p
	return &other
}

// elsewhere reports whether a call came to another server than the one to be read from.
func elsewhere(err error) bool { return redis.HasErrorPrefix(err, "READONLY") }

// entry is one event in the journal.
type entry struct {
	envelope
	value    string
	channels []string
}

// status is what the journal and its server were like at one moment.
type status struct {
	beat     uint64   // number of the heartbeat
	identity identity // whose journal it is
	length   int      // events in it
	last     envelope // the last event, with only its position and stamp; zero if there is none
}

// identity tells one history of events from another.
type identity struct {
	origin string // mark of the data set
	run    string // server process; empty if unknown, as all that follow
	repl   string // replication history
	before string // the history it continued, if it took over from another server
	role   string // master or slave
}

// continues reports whether the later identity is certainly the same history: no event that was accepted before
// can be missing in it.
func (i identity) continues(later identity) bool {
	if i.repl == later.repl {
		// A master that is told to become a replica keeps its ID until it has the data of the other one.
		return i.role != "master" || later.role != "slave" || i.run != later.run
	}
	// A master takes a new ID without any change of its data when its first replica arrives and some time after
	// the last has left. It then names no history it continued, which a server that took over does. Neither does a
	// replica, which may have got all its data from another master.
	return i.run == later.run && later.role == "master" && strings.Trim(later.before, "0") == ""
}

// look returns the status of the journal. If a channel is given, the same is sent there as a heartbeat.
func (j *journal) look(ctx context.Context, channel string, beat uint64) (status, error) {
	// The mark offered is a new one each time: one used twice would make a wiped data set look like itself.
	reply, err := j.state.Run(ctx, j.client.Process, []string{j.keys.journal, j.keys.origin},
		rand.Text()[:16], originTTL.Milliseconds(), channel, beat, j.listened)
	if err != nil {
		return status{}, err
	}
	text, _ := reply.(string)
	s, ok := parseStatus(text)
	if !ok {
		return status{}, fmt.Errorf("%w: status %q", errProtocol, text)
	}
	return s, nil
}

// parseStatus reads the reply of state.lua, which is also the payload of a heartbeat.
func parseStatus(text string) (status, bool) {
	fields := strings.Split(text, "\n")
	if len(fields) != 9 {
		return status{}, false
	}
	var s status
	var errBeat, errLength error
	s.beat, errBeat = strconv.ParseUint(fields[0], 10, 64)
	s.identity = identity{fields[1], fields[2], fields[3], fields[4], fields[8]}
	s.length, errLength = strconv.Atoi(fields[5])
	ok := true
	if fields[6] != "" {
		s.last.pos, ok = parsePosition(fields[6])
		s.last.id, s.last.stamp = fields[6], fields[7]
	}
	return s, ok && errBeat == nil && errLength == nil
}

// section is a part of the journal that was read.
type section struct {
	entries []entry
	// intact tells that the place it was read from is still there. If not, what followed that may be gone too.
	intact bool
	more   bool   // there may be more behind it
	origin string // whose events these are
	length int64  // how many the journal has
}

// from reads the event at the place given and up to count that follow it. A zero place is the beginning, which is
// always there. A place without stamp matches any event at its position.
func (j *journal) from(ctx context.Context, at envelope, count int) (section, error) {
	part, err := j.fetch(ctx, at.pos, lastPosition(), count+1)
	if err != nil {
		return section{}, err
	}
	part.more = len(part.entries) > count
	if !at.pos.isZero() {
		part.intact = len(part.entries) > 0 && part.entries[0].pos == at.pos &&
			(at.stamp == "" || at.stamp == part.entries[0].stamp)
	}
	return part, nil
}

// after is from without the event at the place itself.
func (j *journal) after(ctx context.Context, at envelope, count int) (section, error) {
	part, err := j.from(ctx, at, count)
	if part.intact && !at.pos.isZero() {
		part.entries = part.entries[1:]
	}
	return part, err
}

// lastPosition is behind every event.
func lastPosition() position { return position{math.MaxUint64, math.MaxUint64} }

// between returns up to count events from one place to another, both included.
func (j *journal) between(ctx context.Context, from, to position, count int) ([]entry, error) {
	part, err := j.fetch(ctx, from, to, count)
	return part.entries, err
}

// fetch is between, with what else is known of the journal.
func (j *journal) fetch(ctx context.Context, from, to position, count int) (section, error) {
	began := time.Now()
	reply, err := j.read.Run(ctx, j.client.Process, []string{j.keys.journal, j.keys.origin},
		from.String(), to.String(), count, j.listened)
	if err != nil {
		return section{}, j.patience.after(err, from, count, time.Since(began))
	}
	fields, _ := reply.([]any)
	if len(fields) != 3 {
		return section{}, fmt.Errorf("%w: %T instead of events", errProtocol, reply)
	}
	part := section{intact: true}
	part.origin, _ = fields[0].(string)
	part.length, _ = fields[1].(int64)
	rows, _ := fields[2].([]any)
	part.entries = make([]entry, 0, len(rows))
	for _, row := range rows {
		e, err := parseEntry(row)
		if err != nil {
			return section{}, err
		}
		part.entries = append(part.entries, e)
	}
	return part, nil
}

// parseEntry reads one element of the reply of XRANGE. An entry that the publish script did not write has no
// channels and is therefore delivered to nobody.
func parseEntry(row any) (entry, error) {
	pair, _ := row.([]any)
	if len(pair) != 2 {
		return entry{}, fmt.Errorf("%w: event %v", errProtocol, row)
	}
	id, _ := pair[0].(string)
	fields, _ := pair[1].([]any)
	var e entry
	var ok bool
	if e.pos, ok = parsePosition(id); !ok {
		return entry{}, fmt.Errorf("%w: event ID %q", errProtocol, id)
	}
	e.id = id
	if len(fields) == 4 {
		key, _ := fields[1].(string)
		e.value, _ = fields[3].(string)
		if _, rest, ok := e.openValue(e.value); ok {
			e.detach(e.value[:len(e.value)-len(rest)])
			e.channels = openKey(key)
		}
	}
	return e, nil
}

// message builds the message of the event for one of its channels, as it would have arrived live.
func (e *entry) message(channel string) *Message {
	m := newMessage(channel, seal(e.id, e.value), e.envelope, true)
	m.Recovered = true
	return m
}

// match returns the first channel of the event that a name stands for.
func (e *entry) match(name string, pattern bool) (channel string, ok bool) {
	for _, channel := range e.channels {
		if channel == name && !pattern || pattern && glob.Match(name, channel) {
			return channel, true
		}
	}
	return "", false
}

// permanent reports whether asking the server again would give the same error.
func permanent(err error) bool {
	if _, never := errors.AsType[unreadableError](err); never {
		return true
	}
	var reply redis.Error
	if !errors.As(err, &reply) || redisx.IsTransient(err) {
		return false
	}
	// Two nodes of a cluster may send a client to and fro for a moment, and a password may be changed on one side first.
	for _, passing := range []string{"MOVED", "ASK", "NOAUTH", "WRONGPASS"} {
		if redis.HasErrorPrefix(err, passing) {
			return false
		}
	}
	return true
}
