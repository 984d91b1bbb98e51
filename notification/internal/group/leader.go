package group

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

// errReplica is the error of a connection that leads to a server which follows another one.
var errReplica = errors.New("notification: the server has become a replica")

// errOvertaken ends the term of a leader for whom the group has moved on: another member leads by now, or a command of an earlier
// term has arrived late. The next term tells.
var errOvertaken = errors.New("notification: the group has read on")

// leader reads the journal for the group while its member is the one to do so.
type leader struct {
	set     *Settings
	ops     *ops
	link    *link
	journal *journal.Journal
	poke    chan struct{} // the group may be without a leader; has room for one
	failing redisx.Repeated
	reader  *journal.Reader // for all terms: what it has learnt of the events and the link took long

	// What follows is of one term, which lead begins.
	server   journal.Server
	failures int      // attempts in a row to read that failed
	stored   string   // how far the journal was read as the group knows it, empty at first
	at       progress // how far it was read
	doubtful bool     // the next part does not follow, and that was looked into
	full     bool     // the group holds as much as it may
	pause    time.Duration
	next     time.Time // when the next round is due
}

func newLeader(s *Settings, o *ops, l *link) *leader {
	j := journal.New(s.Journal)
	return &leader{set: s, ops: o, link: l, journal: j, reader: j.NewReader(readPatience), poke: make(chan struct{}, 1)}
}

// wake makes the member try to lead.
func (l *leader) wake() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// begin returns what a new group is to know of the journal.
func (l *leader) begin(ctx context.Context, c redis.UniversalClient) (known string, err error) {
	status, err := l.journal.Beat(ctx, journal.Server{Client: c}, "", 0)
	if err != nil {
		return "", err
	}
	at := progress{epoch: status.Epoch, cursor: status.Cursor(), identity: status.Identity}
	if l.set.From != nil {
		at.cursor, at.anything = journal.Envelope{Pos: *l.set.From}, l.set.From.IsZero()
		if l.set.From.Ms > 0 && l.set.From.Ms < status.Since { // that of a former journal: all of this one is new
			at.cursor, at.anything, at.wiped = journal.Envelope{}, true, true
		}
	}
	return at.String(), nil
}

// run leads whenever the group has no other leader, until ctx ends.
func (l *leader) run(ctx context.Context) {
	for {
		select {
		case <-l.poke:
		case <-ctx.Done():
			return
		}
		for attempt := 1; ctx.Err() == nil; attempt++ {
			began := time.Now()
			err := l.lead(ctx)
			var pattern *PatternError
			if err == nil || errors.Is(err, errGone) || errors.As(err, &pattern) {
				break // another one leads, or the next turn finds out that the group is gone, and joins it with a poke
			}
			if ctx.Err() != nil {
				return
			}
			if !errors.Is(err, errOvertaken) {
				l.failed(err)
			}
			if time.Since(began) > leadFor {
				attempt = 1
			}
			_ = redisx.Sleep(ctx, redisx.Backoff(attempt, lowPause, highPause))
		}
	}
}

// lead is one term. It returns nil when another member leads, or ctx has ended.
func (l *leader) lead(ctx context.Context) error {
	l.failures, l.stored, l.pause, l.doubtful = 0, "", lowPause, false
	leads := true
	var err error
	for next := l.round; err == nil && leads && ctx.Err() == nil; next = l.step {
		if !time.Now().Before(l.next) {
			next = l.round
		}
		leads, err = next(ctx)
	}
	if err != nil && !errors.Is(err, errOvertaken) {
		l.link.failed(ctx, l.server.Client, err)
	}
	return err
}

func (l *leader) failed(err error) {
	l.failing.Log(l.set.Log, zap.WarnLevel, "notification: reading the journal for a group failed",
		zap.String("group", l.set.Group), zap.Error(err))
}

// round shows that the leader lives, and looks after the group and the journal. It reports whether the member leads.
func (l *leader) round(ctx context.Context) (leads bool, err error) {
	if l.server.Client, err = l.link.get(ctx); err != nil {
		return false, err
	}
	known := ""
	if l.stored != "" && l.at.String() != l.stored {
		known = l.at.String()
	}
	r, err := l.extend(ctx, known)
	if err != nil || !r.leads {
		return false, err
	}
	if l.stored == "" || r.known != l.at.String() {
		if l.at, err = parseProgress(r.known); err != nil {
			return false, err
		}
	}
	l.stored = r.known
	// What is missing is reported while the group still expects it, and its progress is stored with the next step.
	if err := l.check(ctx); err != nil {
		return false, err
	}
	if lost := r.lost - l.at.lost; lost > 0 || l.at.wiped || l.at.formers < r.formers {
		l.at.lost, l.at.wiped, l.at.formers = r.lost, false, r.formers
		l.tell(ctx, journal.Wiped, "", uint64(max(lost, 0))) //nolint:gosec // not negative
	}
	l.schedule(r)
	return true, nil
}

// extend makes the member lead for longer, and stores how far it has read, unless that is empty.
func (l *leader) extend(ctx context.Context, known string) (leadership, error) {
	return l.ops.doLead(ctx, l.server.Client, l.stored, known, 2*max(l.set.Claim, l.set.LongestPause))
}

// tell reports a gap. That may take long, and the member goes on leading meanwhile, as another one would report it too.
func (l *leader) tell(ctx context.Context, reason journal.Reason, after string, missed uint64) {
	told := make(chan struct{})
	go func() {
		defer close(told)
		l.set.Gap(reason, after, missed)
	}()
	tick := time.NewTicker(roundEvery)
	defer tick.Stop()
	for {
		select {
		case <-told:
			return
		case <-tick.C:
			_, _ = l.extend(ctx, "") // the next step notices if that was in vain
		}
	}
}

// schedule sets when the next round is due: in time for an event that somebody has to be woken for, and for a group that has
// too much, soon.
func (l *leader) schedule(r leadership) {
	wait := roundEvery
	if r.next > 0 {
		wait = min(wait, r.next)
	}
	if l.full = isFull(r.held, r.bytes); l.full {
		wait = min(wait, l.pause)
		l.pause = min(2*l.pause, highPause)
	} else {
		l.pause = lowPause
	}
	l.next = time.Now().Add(wait)
}

// check finds out whether the journal is still the one that was read, if that is in doubt.
func (l *leader) check(ctx context.Context) error {
	status, err := l.journal.Beat(ctx, l.server, "", 0)
	if err != nil {
		return err
	}
	if status.Identity.Role == "slave" {
		return errReplica
	}
	same := status.Epoch == l.at.epoch && status.Identity == l.at.identity
	switch cursor := &l.at.cursor; {
	case l.doubtful, l.at.anything:
	case same && status.Offset > cursor.Pos.Offset && cursor.Pos.Less(status.Last.Pos):
		return nil // the next part tells
	case same && status.Offset == cursor.Pos.Offset && status.Length == 0:
		cursor.Pos.Ms = 0 // it expired; the server's clock may have gone back by the next entry
		return nil
	case same && status.Offset == cursor.Pos.Offset && status.Last.Same(cursor):
		return nil
	}
	return l.compare(ctx)
}

// compare reports what may be missing in the journal of now, and finds where to go on in it.
func (l *leader) compare(ctx context.Context) error {
	known := journal.Known{Epoch: l.at.epoch, Cursor: l.at.cursor, Identity: l.at.identity}
	now, err := l.journal.Look(ctx, l.server, known)
	if err != nil {
		return err
	}
	found := journal.Compare(known, now)
	if found.Reason != journal.None && !l.at.anything {
		l.tell(ctx, found.Reason, l.at.cursor.ID, 0)
		if found.Also != journal.None {
			l.tell(ctx, found.Also, l.at.cursor.ID, 0)
		}
		if found.Reason == journal.Wiped {
			l.at.wiped = false // the group went with the journal, which is one gap
		}
	}
	l.at.epoch, l.at.identity = now.Epoch, now.Identity
	switch {
	case now.First == nil:
		l.at.cursor = now.Cursor()
	case found.From.IsZero(), found.Reason == journal.RolledBack, l.at.anything, found.From != l.at.cursor.Pos:
		// The first entry is next, and the cursor says where that begins: a full group reads it much later, if it is still there.
		// The server's clock may have gone back, so its ID need not be a later one. Of a journal that was rolled back nobody
		// knows how far. What comes again was done before: at least once is promised.
		l.at.cursor = journal.Envelope{Pos: journal.Position{Offset: now.First.Start()}}
	}
	l.at.anything = false
	return nil
}
