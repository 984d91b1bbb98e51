package store

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redisx"
)

const (
	// maxTries is how often a command is sent when it fails.
	maxTries = 6
	// minRetryDelay and maxRetryDelay bound the pause before a command that failed is sent again.
	minRetryDelay = 5 * time.Millisecond
	maxRetryDelay = 500 * time.Millisecond
	// maxMoveDelay bounds it while the slot of a key moves, for which there is no limit but the caller's time: what was
	// asked for may be split between two servers for as long as that takes.
	maxMoveDelay = 50 * time.Millisecond
	// aloneTime is by how much the end of a caller's context may go unnoticed when a quick server suddenly hangs.
	aloneTime = 200 * time.Millisecond
)

var (
	errNoAnswer   = errors.New("no answer in time")
	errNotSent    = errors.New("not sent in time, as the server does not answer")
	errUnexpected = errors.New("unexpected reply of a script")
)

// Settings say how a Redis works. All are required but Several and Index.
type Settings struct {
	// Several says that this is one of several servers that form a quorum: what an attempt may have left is removed when
	// the quorum says so.
	Several bool
	// Index is which of them, from 0.
	Index int
	// Timeout bounds each round trip.
	Timeout time.Duration
	// Reservation is how long a lock that was released is kept for the first waiter.
	Reservation time.Duration
	// Go starts a goroutine. It reports false if none may be started any more.
	Go func(func()) bool
	// Panicked is called when a hook of the client has panicked, or ended its goroutine, where no caller can recover.
	Panicked func(err error)
}

// link is the way to a Redis.
type link struct {
	set     Settings
	client  redis.UniversalClient
	cluster *redis.ClusterClient // what is behind client, nil if that is no cluster
}

// Redis keeps locks on one Redis. It is safe for concurrent use.
type Redis struct {
	link

	scripts  scripts
	commands *batch.Commands
	renewals *renewals
	reapers  *reapers
}

// New returns a Redis on a client, to which nothing is sent yet. The client must be open until Close has returned.
func New(client redis.UniversalClient, set Settings) *Redis {
	cluster, _ := redisx.Unwrap[*redis.ClusterClient](client)
	l := link{set, client, cluster}
	alone := aloneTime
	if !redisx.HeedsDeadlines(client) {
		alone = 0 // the caller would return with the client, long after the end of its context
	}
	return &Redis{
		link: l, scripts: newScripts(set.Several), renewals: newRenewals(l), reapers: newReapers(l),
		commands: batch.NewCommands(client, batch.CommandSettings{
			Timeout: set.Timeout, Alone: alone, Go: func(f func()) { set.Go(f) },
		}),
	}
}

// Ping reports whether the server answers before ctx ends, whether the client heeds that or not.
func (s *Redis) Ping(ctx context.Context) error {
	if redisx.HeedsDeadlines(s.client) {
		return s.client.Ping(ctx).Err()
	}
	answer := make(chan error, 1)
	if !s.set.Go(func() { answer <- redisx.Catch(func() error { return s.client.Ping(ctx).Err() }) }) {
		return errNotSent
	}
	select {
	case err := <-answer:
		redisx.Raise(err)
		return err
	case <-ctx.Done():
		return errNoAnswer
	}
}

// Close ends renewals, tries for the last time to remove what may have been left, and returns when that is done, an
// error if something may still be there.
func (s *Redis) Close(ctx context.Context) error {
	s.renewals.close()
	return s.reapers.close(ctx)
}

// master returns the client of the master that has a key in a cluster, nil if that is not known just now, or there is no
// cluster. It asks no server, as those that hang would hold up the caller.
func (l link) master(key string) *redis.Client {
	if l.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // before anything is sent
	master, err := l.cluster.MasterForKey(ctx, key)
	if err != nil {
		return nil
	}
	return master
}

// address names a server, "" for nil.
func address(master *redis.Client) string {
	if master == nil {
		return ""
	}
	return master.Options().Addr
}

// run makes a call, together with those of other callers, and again after a failure that may pass. lost says that a try
// has ended without a reply: it may have been executed, or be executed still.
func (s *Redis) run(ctx context.Context, c call) (reply any, lost bool, err error) {
	process := func(ctx context.Context, cmd redis.Cmder) error {
		return s.commands.Process(ctx, c.keys[0], cmd, 0)
	}
	for try := 1; ; try++ {
		reply, err = c.script.Run(ctx, process, c.keys, c.arguments()...)
		lost = lost || isLost(err)
		if _, abandoned := errors.AsType[*batch.AbandonedError](err); abandoned {
			return nil, lost, errNoAnswer
		}
		moving := redis.IsTryAgainError(err)
		if err == nil || try >= maxTries && !moving || !redisx.IsTransient(err) {
			return reply, lost, err
		}
		if s.cluster != nil {
			s.cluster.ReloadState(ctx) // in the background: another node may be the master by now
		}
		longest := maxRetryDelay
		if moving {
			longest = maxMoveDelay
		}
		if redisx.Sleep(ctx, redisx.Backoff(try, minRetryDelay, longest)) != nil {
			return nil, lost, err
		}
	}
}

// isLost reports whether a command that has failed so may have been executed, or be executed still. A script that returns
// an error has set no lock, as that is the last thing in it that can fail.
func isLost(err error) bool {
	if abandoned, ok := errors.AsType[*batch.AbandonedError](err); ok {
		return abandoned.Sent
	}
	return err != nil && err != errNotSent && !redisx.IsReply(err) && !redisx.IsUnsent(err) //nolint:errorlint // our own
}

// number makes a call whose reply is an integer.
func (s *Redis) number(ctx context.Context, c call) (number int64, lost bool, err error) {
	reply, lost, err := s.run(ctx, c)
	if err != nil {
		return 0, lost, err
	}
	number, err = integer(reply)
	return number, lost, err
}

// integer converts the reply of a script.
func integer(reply any) (int64, error) {
	number, ok := reply.(int64)
	if !ok {
		return 0, errUnexpected
	}
	return number, nil
}

// integers converts the reply of a script that is a list of numbers.
func integers(reply any, count int) ([]int64, error) {
	list, ok := reply.([]any)
	if !ok || len(list) != count {
		return nil, errUnexpected
	}
	numbers := make([]int64, count)
	for i, item := range list {
		number, err := integer(item)
		if err != nil {
			return nil, err
		}
		numbers[i] = number
	}
	return numbers, nil
}
