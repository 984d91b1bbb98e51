package group

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

//go:embed join.lua
var joinSource string

//go:embed lead.lua
var leadSource string

//go:embed feed.lua
var feedSource string

//go:embed turn.lua
var turnSource string

// errRemade says that the group was lost, and made again by a member that did not know it.
var errRemade = errors.New("notification: the group was made again")

// errGone says that Redis has nothing of the group any more.
var errGone = errors.New("notification: the group is gone")

// peekSource returns the ID of the entry that follows a position, ARGV[1], of the stream KEYS[1], and not the entry.
const peekSource = `return redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)[1][1]`

// PatternError is the error of a member that wants other events than the group, or than the one that has its name by now.
type PatternError struct {
	Group   string
	Pattern string // of the group
}

func (e *PatternError) Error() string {
	return fmt.Sprintf("notification: the group %q has the pattern %q", e.Group, e.Pattern)
}

// keys are the names of a group in Redis. What is what says join.lua and those it names.
type keys struct{ progress, events, due, wake, dead, turns string }

// newKeys returns the keys of a group beside a journal. A name may contain anything: the last part tells the kind.
func newKeys(beside journal.Keys, group string) keys {
	base := beside.Base + "group:" + group + ":"
	return keys{
		progress: base + "progress", events: base + "events", due: base + "due", wake: base + "wake", dead: base + "dead",
		turns: base + "turn:",
	}
}

// DeadKey returns the name of the stream of the events that a group has given up.
func DeadKey(beside journal.Keys, group string) string { return newKeys(beside, group).dead }

// ops are what a member asks the server for. The caller names the connection.
type ops struct {
	group   string
	pattern string
	member  string
	id      string // of the group, "" before the member has joined
	keys    keys

	join, lead, feed, turn, peek *redisx.Script
}

func newOps(s *Settings) *ops {
	return &ops{
		group: s.Group, pattern: s.Pattern, member: rand.Text(), keys: newKeys(s.Journal, s.Group),
		join: redisx.NewScript(joinSource), lead: redisx.NewScript(leadSource),
		feed: redisx.NewScript(feedSource), turn: redisx.NewScript(turnSource),
		peek: redisx.NewScript(peekSource),
	}
}

// processor is a client, or one connection of it.
type processor interface {
	Process(ctx context.Context, cmd redis.Cmder) error
}

// run runs a script once: a client would repeat it without a word, also when it was executed.
func (o *ops) run(ctx context.Context, c processor, script *redisx.Script, keys []string, least int, args ...any) ([]any, error) {
	process := func(ctx context.Context, cmd redis.Cmder) error { return c.Process(ctx, redisx.Once(cmd)) }
	reply, err := script.Run(ctx, process, keys, args...)
	switch {
	case redis.HasErrorPrefix(err, "NOGROUP"):
		return nil, errGone
	case redis.HasErrorPrefix(err, "REMADE"):
		return nil, errRemade
	case redis.HasErrorPrefix(err, "PATTERN "):
		return nil, &PatternError{Group: o.group, Pattern: strings.TrimPrefix(err.Error(), "PATTERN ")}
	case err != nil:
		return nil, err
	}
	values, _ := reply.([]any)
	if len(values) < least {
		return nil, fmt.Errorf("%w: %T to a script of a group", journal.ErrProtocol, reply)
	}
	return values, nil
}

// doJoin joins the group. If there is none, it is made, with what is to be known of the journal: where there is something of
// such a group, with what is to be known after a loss. A group that is another one than the member was in learns of that.
func (o *ops) doJoin(ctx context.Context, c processor, known, wiped string) error {
	keys := []string{o.keys.progress, o.keys.events, o.keys.due, o.keys.dead}
	values, err := o.run(ctx, c, o.join, keys, 2, o.pattern, known, wiped, rand.Text(), o.id)
	if err != nil {
		return err
	}
	o.id = text(values[1])
	return nil
}

// leadership is the reply of lead.lua.
type leadership struct {
	leads       bool
	known       string
	held, bytes int64
	lost        int64         // events that Redis has evicted since the group was made
	formers     int64         // groups of this name that were lost, and left members
	next        time.Duration // until the next event is due, negative if none is
}

func (o *ops) doLead(ctx context.Context, c processor, expected, known string, ahead time.Duration) (leadership, error) {
	keys := []string{o.keys.progress, o.keys.events, o.keys.due, o.keys.wake}
	values, err := o.run(ctx, c, o.lead, keys, 7,
		o.member, leadFor.Milliseconds(), expected, known, ahead.Milliseconds(), o.pattern)
	if err != nil {
		return leadership{}, err
	}
	return leadership{
		leads: values[0] == int64(1), known: text(values[1]), held: number(values[2]), bytes: number(values[3]),
		lost: number(values[4]), next: milliseconds(values[5]), formers: number(values[6]),
	}, nil
}

// fed is an event for the group.
type fed struct{ id, body string }

// doFeed gives events to the group. It reports whether it did, and how much the group holds.
func (o *ops) doFeed(
	ctx context.Context, c processor, expected, known string, events []fed,
) (done bool, held, bytes int64, err error) {
	args := make([]any, 0, 3+2*len(events))
	args = append(args, expected, known, o.pattern)
	for _, e := range events {
		args = append(args, e.id, e.body)
	}
	values, err := o.run(ctx, c, o.feed, []string{o.keys.progress, o.keys.events, o.keys.due, o.keys.wake}, 4, args...)
	if err != nil {
		return false, 0, 0, err
	}
	// After a lost reply the repetition finds what the first attempt has left.
	done = values[0] == int64(1) || text(values[1]) == known
	return done, number(values[2]), number(values[3]), nil
}

// outcome is what became of an event.
type outcome struct {
	what string
	id   string
	n    int64
	text string
}

const (
	done   = "done"
	again  = "again"
	back   = "back"
	live   = "live"
	dead   = "dead"
	resign = "resign"
)

// turnReply is the reply of turn.lua.
type turnReply struct {
	known  string
	free   bool          // nobody leads
	next   time.Duration // until the next event is due, negative if none is
	events []Event
}

func (o *ops) doTurn(ctx context.Context, c processor, t turnRequest) (turnReply, error) {
	args := make([]any, 0, 8+4*len(t.outcomes))
	args = append(args, o.member, t.number, t.room, t.bytes, t.claim.Milliseconds(), t.deadCap, o.pattern, o.id)
	for _, r := range t.outcomes {
		args = append(args, r.what, r.id, r.n, r.text)
	}
	k := o.keys
	values, err := o.run(ctx, c, o.turn, []string{k.progress, k.events, k.due, k.wake, k.dead, k.turns + o.member}, 3, args...)
	if err != nil {
		return turnReply{}, err
	}
	reply := turnReply{known: text(values[0]), free: values[1] == int64(1), next: milliseconds(values[2])}
	for rest := values[3:]; len(rest) >= 4; rest = rest[4:] {
		attempt, errAttempt := strconv.Atoi(text(rest[1]))
		pos, ok := position(text(rest[0]))
		if errAttempt != nil || !ok {
			return turnReply{}, fmt.Errorf("%w: event %v of a group", journal.ErrProtocol, rest[:2])
		}
		reply.events = append(reply.events, Event{
			key: text(rest[0]), ID: pos.String(), Attempt: attempt, Abandoned: rest[2] == int64(1), Returned: rest[2] == int64(2),
			Body: text(rest[3]),
		})
	}
	return reply, nil
}

// turnRequest is what a member says and wants.
type turnRequest struct {
	number   uint64 // the same for all attempts at it, and larger than that of every turn before
	room     int
	bytes    int // how much to take, unless one event has more; attempts may differ in it
	claim    time.Duration
	deadCap  int
	outcomes []outcome
}

// sortable returns a position as an ID that sorts as text.
func sortable(p journal.Position) string { return fmt.Sprintf("%020d-%020d", p.Ms, p.Offset) }

// position reads what sortable wrote.
func position(id string) (journal.Position, bool) { return journal.ParsePosition(id) }

func text(v any) string {
	s, _ := v.(string)
	return s
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}

func milliseconds(v any) time.Duration { return time.Duration(number(v)) * time.Millisecond }
