package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// What is here needs no versions. The client has all commands of Redis for it.

// key makes a name that shares its hash tag with all other names of this run, so that transactions work on a cluster.
func (s *Store) key(what string) string { return "example:{" + s.run + "}:" + what }

func (s *Store) todoKey() string            { return s.key("todo") }
func (s *Store) ledgerKey(id string) string { return s.key("ledger:" + id) }

// NextID returns an ID that no process of this run has had, even if Redis has lost its data since: the numbers begin
// at 1 then, and the series that they belong to has another name.
func (s *Store) NextID(ctx context.Context) (string, error) {
	tx := s.rdb.TxPipeline()
	tx.SetNX(ctx, s.key("series"), strings.ToLower(rand.Text()[:4]), keep)
	series := tx.GetEx(ctx, s.key("series"), keep)
	n := tx.Incr(ctx, s.key("last"))
	tx.Expire(ctx, s.key("last"), keep)
	if _, err := tx.Exec(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s-%s-%04d", s.run, series.Val(), n.Val()), nil
}

// list puts a workflow on the list of the unfinished.
func (s *Store) list(ctx context.Context, id string) error {
	tx := s.rdb.TxPipeline()
	tx.SAdd(ctx, s.todoKey(), id)
	tx.Expire(ctx, s.todoKey(), keep)
	_, err := tx.Exec(ctx)
	return err
}

// Pick returns an unfinished workflow, chosen by chance, or "" if there is none.
func (s *Store) Pick(ctx context.Context) (string, error) {
	id, err := s.rdb.SRandMember(ctx, s.todoKey()).Result()
	if isMissing(err) {
		return "", nil
	}
	return id, err
}

// Unfinished returns how many workflows nobody has finished.
func (s *Store) Unfinished(ctx context.Context) (int64, error) {
	return s.rdb.SCard(ctx, s.todoKey()).Result()
}

// Finish takes a workflow off the list of unfinished ones. It is called when the last event is out, not before, so
// that somebody publishes that event if this worker dies.
func (s *Store) Finish(ctx context.Context, id string) error {
	return s.rdb.SRem(ctx, s.todoKey(), id).Err()
}

// Listed reports whether a workflow is still to be taken off the list of the unfinished.
func (s *Store) Listed(ctx context.Context, id string) (bool, error) {
	return s.rdb.SIsMember(ctx, s.todoKey(), id).Result()
}

// CountWait notes that a worker found a workflow locked by another.
func (s *Store) CountWait(ctx context.Context) error {
	pipe := s.rdb.Pipeline()
	pipe.Incr(ctx, s.key("waits"))
	pipe.Expire(ctx, s.key("waits"), keep)
	_, err := pipe.Exec(ctx)
	return err
}

// Waits returns how often workers of all processes found a workflow locked.
func (s *Store) Waits(ctx context.Context) (int64, error) {
	n, err := s.rdb.Get(ctx, s.key("waits")).Int64()
	if isMissing(err) {
		return 0, nil
	}
	return n, err
}

// isMissing reports whether err is the reply that there is no such key. A failure can wrap
// redis.Nil as well: when no sentinel can be reached, or none knows the master. So only
// the bare reply counts, or an outage would look like an empty list.
func isMissing(err error) bool { return err == redis.Nil } //nolint:errorlint // see above
