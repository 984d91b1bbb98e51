package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/compozy/cache"
	"github.com/compozy/cache/notification"
)

const (
	// outageTime is how long Redis, or the database of the customers, is away. Locks end within it.
	outageTime = 6 * time.Second
	// burstSize is how many events come at once.
	burstSize = 500
	// dropPatience is how long to wait for a lock that can be dropped.
	dropPatience = 3 * time.Second
)

var (
	errNotHere = errors.New("this cannot be broken here")
	errAlready = errors.New("it is paused already")
	errNothing = errors.New("no worker of this process holds the lock of a workflow")
	errPaused  = errors.New("paused from the page")
)

// Button is something that the page can break.
type Button struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	Hint  string `json:"hint"`
}

// Breakage breaks things on purpose. All but the database need the embedded server: a Redis that others may use is left
// alone. It is safe for concurrent use.
type Breakage struct {
	options   Options
	redis     *server
	rdb       cache.RedisInterface
	events    *cache.RedisNotificationSystem
	helpers   *Helpers
	customers *Customers
	board     *Board
	store     *Store
	diary     *Diary

	mu     sync.Mutex // guards resume
	resume *time.Timer
}

// NewBreakage returns one that has broken nothing yet.
func NewBreakage(
	o Options, redis *server, rdb cache.RedisInterface, events *cache.RedisNotificationSystem,
	h *Helpers, c *Customers, b *Board, s *Store, d *Diary,
) *Breakage {
	return &Breakage{options: o, redis: redis, rdb: rdb, events: events, helpers: h, customers: c, board: b, store: s, diary: d}
}

// Buttons returns what can be broken here, and why not more.
func (b *Breakage) Buttons() (can []Button, whyNot string) {
	own := b.redis.Embedded != nil
	for _, one := range []struct {
		Button
		there bool
	}{
		{Button{"pause", "Pause Redis", "no answer and no connection for 6 s"}, own},
		{Button{"kill", "Kill a process", "SIGKILL for a helper and its workers"}, b.options.Helpers > 0},
		{Button{"drop", "Drop a lock", "delete the key of a lock that is held"}, own},
		{Button{"flush", "Flush Redis", "delete all that is in it"}, own},
		{Button{"burst", "Burst", fmt.Sprintf("%d events at once", burstSize)}, own},
		{Button{"database", "Fail database", "no customers but cached ones for 6 s"}, true},
	} {
		if one.there {
			can = append(can, one.Button)
		}
	}
	if !own {
		whyNot = "More can be broken on a Redis of its own. This run is on one that others may use, " +
			"so the page leaves that alone: start the program without REDIS_URL to try."
	}
	return can, whyNot
}

// Press breaks something, and writes into the diary what. The error says why that cannot be.
func (b *Breakage) Press(ctx context.Context, name string) error {
	can, _ := b.Buttons()
	if !slices.ContainsFunc(can, func(one Button) bool { return one.Name == name }) {
		return errNotHere
	}
	switch name {
	case "pause":
		return b.pause()
	case "kill":
		return b.kill()
	case "drop":
		return b.drop(ctx)
	case "flush":
		return b.flush(ctx)
	case "burst":
		return b.burst(ctx)
	default:
		b.customers.Break(outageTime)
		b.diary.Addf(Broke, "The database of the customers fails for %.0f s.", outageTime.Seconds())
		return nil
	}
}

// pause cuts all connections, and lets no new ones in, for a while.
func (b *Breakage) pause() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.resume != nil {
		return errAlready
	}
	b.diary.Addf(Broke, "Redis is paused for %.0f s: no connection, no answer.", outageTime.Seconds())
	b.redis.Embedded.Fail(errPaused)
	b.resume = time.AfterFunc(outageTime, b.Stop)
	return nil
}

// Stop ends the pause, if there is one.
func (b *Breakage) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.resume == nil {
		return
	}
	b.resume.Stop()
	b.resume = nil
	b.redis.Embedded.Fail(nil)
}

func (b *Breakage) kill() error {
	name, err := b.helpers.Kill()
	if err != nil {
		return err
	}
	b.diary.Addf(Broke, "Process %s was killed in the middle of its work. Its locks stay for %.0f s at most; another one replaces it in %.0f s.",
		name, lockTTL.Seconds(), replaceAfter.Seconds())
	return nil
}

// drop deletes the key of a lock behind the back of its holder, a worker of this process. What the key is called, package
// lock documents.
func (b *Breakage) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dropPatience)
	defer cancel()
	for {
		for _, card := range b.board.Picture().Workflows {
			ours := strings.HasPrefix(card.Worker, b.options.Name+"/")
			if card.Status != Running || !ours || card.Done >= len(card.Steps)-1 { // it might be done before it notices
				continue
			}
			n, err := b.rdb.Del(ctx, "cache:lock:{"+b.store.Resource(card.ID)+"}").Result()
			if err != nil {
				return err
			}
			if n > 0 {
				b.diary.Addf(Broke, "The lock of %s was deleted in Redis, behind the back of %s.", card.ID, card.Worker)
				return nil
			}
		}
		if pause(ctx, glance) != nil {
			return errNothing
		}
	}
}

func (b *Breakage) flush(ctx context.Context) error {
	b.diary.Addf(Broke, "All that was in Redis was deleted: locks, states, journal and cache.")
	return b.rdb.FlushAll(ctx).Err()
}

// burst publishes many events at once, and counts what arrives.
func (b *Breakage) burst(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, outageTime)
	defer cancel()
	channel := "example:" + b.options.Run + ":burst"
	heard := b.events.Subscribe(ctx, channel)
	defer func() { _ = heard.Close() }()
	batch := make([]cache.Outgoing, burstSize)
	for i := range batch {
		batch[i] = notification.To(channel, map[string]int{"n": i})
	}
	began := time.Now()
	if err := b.events.PublishBatch(ctx, batch...); err != nil {
		return err
	}
	published := time.Since(began)
	for n := range burstSize {
		select {
		case <-heard.Messages():
			b.board.Heard(1)
		case <-ctx.Done():
			return fmt.Errorf("of %d events %d arrived: %w", burstSize, n, ctx.Err())
		}
	}
	b.diary.Addf(Copes, "A burst of %d events was published in %.0f ms, and had arrived after %.0f ms, without a gap.",
		burstSize, published.Seconds()*1000, time.Since(began).Seconds()*1000)
	return nil
}
