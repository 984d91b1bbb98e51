package journal

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

//go:embed status.lua
var statusSource string

//go:embed here.lua
var hereSource string

//go:embed heads.lua
var headsSource string

//go:embed few.lua
var fewSource string

// StateTTL is how long the state of a journal stays when nobody publishes and nobody subscribes.
const StateTTL = 7 * 24 * time.Hour

// Status is what the journal and its server are like at one moment.
type Status struct {
	Beat     uint64   // number of the heartbeat
	Epoch    string   // names one life of the journal, from its first event until its data is lost
	Offset   uint64   // bytes ever appended in this epoch
	Length   int      // entries now
	Last     Envelope // the last entry, with only its ID, position and stamp; zero if there is none
	Identity Identity // which server it is on
	// First is the time in the ID of the first entry, in milliseconds, as of 10 seconds ago at most; 0 if there is none, or if
	// the user may not run XRANGE.
	First uint64
	// Since is when the epoch began, in milliseconds of the server's time; 0 if that is not known. An ID from before is that of an
	// event of a former journal.
	Since uint64
}

// End returns the position of the last entry, which every later one is behind. That of an empty journal has no time, as the
// server's clock may have been set back by the time of the next entry; but its offset says what came before.
func (s *Status) End() Position {
	if s.Length == 0 {
		return Position{Offset: s.Offset}
	}
	return s.Last.Pos
}

// Cursor returns what is known of the end of the journal, for a later comparison.
func (s *Status) Cursor() Envelope {
	if s.Length == 0 {
		return Envelope{Pos: s.End()}
	}
	return s.Last
}

// ParseStatus reads the reply of status.lua, which is also the payload of a heartbeat.
func ParseStatus(text string) (s Status, ok bool) {
	fields := strings.Split(text, "\n")
	if len(fields) != 14 {
		return Status{}, false
	}
	var errs [3]error
	s.Beat, errs[0] = strconv.ParseUint(fields[0], 10, 64)
	s.Epoch = fields[1]
	s.Offset, errs[1] = strconv.ParseUint(fields[2], 10, 64)
	s.Length, errs[2] = strconv.Atoi(fields[3])
	if errs != [3]error{} || s.Epoch == "" || (s.Length == 0) != (fields[4] == "") {
		return Status{}, false
	}
	if s.Length > 0 {
		if s.Last.Pos, ok = ParsePosition(fields[4]); !ok {
			return Status{}, false
		}
		s.Last.ID, s.Last.Stamp = fields[4], fields[5]
	}
	s.Identity = Identity{
		Run: fields[6], Repl: fields[7], Before: fields[8], Role: fields[9], LinkDown: fields[10] != "", Node: fields[11],
	}
	for i, number := range []*uint64{&s.First, &s.Since} {
		if text := fields[12+i]; text != "" {
			var err error
			if *number, err = strconv.ParseUint(text, 10, 64); err != nil {
				return Status{}, false
			}
		}
	}
	return s, true
}

// Server is the server to ask.
type Server struct {
	Client redis.UniversalClient
	// Listened is a channel that somebody listens to on the server that is meant, empty for any. After a failover,
	// connections of one client may lead to different servers for a while; what comes to another one fails with an error for
	// which [IsElsewhere] is true.
	Listened string
}

// IsElsewhere reports whether a call came to another server than the one that was meant.
func IsElsewhere(err error) bool { return redis.HasErrorPrefix(err, "READONLY") }

// Journal asks for the state of one journal. It is safe for concurrent use.
type Journal struct {
	keys                     Keys
	status, here, heads, few *redisx.Script
}

// New returns the journal with the given names. It asks for nothing yet.
func New(keys Keys) *Journal {
	return &Journal{
		keys: keys, status: redisx.NewScript(statusSource), here: redisx.NewScript(hereSource),
		heads: redisx.NewScript(headsSource), few: redisx.NewScript(fewSource),
	}
}

// Beat publishes the status of the journal to a channel, as the heartbeat with that number, and returns it.
func (j *Journal) Beat(ctx context.Context, on Server, channel string, number uint64) (Status, error) {
	cmd := j.statusCommand(ctx, on, channel, number)
	err := on.Client.Process(ctx, cmd)
	if redisx.IsUnknownScript(err) {
		cmd = j.status.Full(ctx, cmd)
		err = on.Client.Process(ctx, cmd)
	}
	if err != nil {
		return Status{}, err
	}
	return statusOf(cmd)
}

func (j *Journal) statusCommand(ctx context.Context, on Server, channel string, number uint64) *redis.Cmd {
	// The epoch offered is another one each time: one used twice would make wiped data look like itself.
	return j.status.Command(ctx, []string{j.keys.Journal, j.keys.State},
		rand.Text()[:16], StateTTL.Milliseconds(), channel, number, on.Listened)
}

func statusOf(cmd *redis.Cmd) (Status, error) {
	text, _ := cmd.Val().(string)
	s, ok := ParseStatus(text)
	if !ok {
		return Status{}, fmt.Errorf("%w: status %q", ErrProtocol, text)
	}
	return s, nil
}

// Look returns all that a comparison needs with what is known from before, of one moment.
func (j *Journal) Look(ctx context.Context, on Server, known Known) (now Now, err error) {
	// In a transaction scripts go in full: it would be too late to send them when the server says that they are unknown.
	status := j.status.Full(ctx, j.statusCommand(ctx, on, "", 0))
	heads := j.heads.Full(ctx, j.heads.Command(ctx, []string{j.keys.Journal},
		known.Cursor.Pos.String(), known.Oldest.Pos.String()))
	if err := transact(ctx, on.Client, status, heads); err != nil {
		return Now{}, err
	}
	if now.Status, err = statusOf(status); err != nil {
		return Now{}, err
	}
	rows, _ := heads.Val().([]any)
	if len(rows) != 3 {
		return Now{}, fmt.Errorf("%w: %T instead of the heads of entries", ErrProtocol, heads.Val())
	}
	var found [3]*Entry
	for i, row := range rows {
		if found[i], err = parseHead(row); err != nil {
			return Now{}, err
		}
	}
	now.First = found[2]
	if e := found[0]; e != nil {
		now.AtCursor = &e.Envelope
	}
	if e := found[1]; e != nil {
		now.AtOldest = &e.Envelope
	}
	return now, nil
}

// transact sends commands as one transaction, and returns the first error that a reply is.
func transact(ctx context.Context, client redis.UniversalClient, cmds ...redis.Cmder) error {
	_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, cmd := range cmds {
			_ = p.Process(ctx, cmd) // it only joins the others
		}
		return nil
	})
	return err
}
