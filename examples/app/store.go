package main

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache"
)

// keep is how long Redis remembers a workflow after its last change.
const keep = time.Hour

var (
	// errFencedOff means that somebody else has changed the workflow since: whatever was done on it must not count.
	errFencedOff = errors.New("somebody else has the workflow")
	// errVanished means that the state of the workflow is not in Redis any more.
	errVanished = errors.New("the state of the workflow is gone")
)

//go:embed commit.lua
var commitLua string

//go:embed submit.lua
var submitLua string

// What a fact can say.
const (
	factClaimed = "claimed" // a worker with a lock has taken the workflow
	factBegun   = "begun"   // it has begun a step; nobody checks whether it was allowed to
	factDone    = "done"    // the step succeeded and the store accepted it
	factFailed  = "failed"  // the step failed and the store accepted that
	factRefused = "refused" // the store did not accept what a worker without lock did
)

// Fact is an entry of a workflow's ledger, which is only ever appended to: the verdict on a run is found from it, not
// from what any process believes.
type Fact struct {
	What    string    `json:"what"`
	Step    int       `json:"step"`
	Attempt int       `json:"attempt"`
	Token   int64     `json:"token"`
	Worker  string    `json:"worker"`
	At      time.Time `json:"at"`
}

// Store keeps the workflows of one run in Redis. It is safe for concurrent use, by several processes as well.
type Store struct {
	rdb            cache.RedisInterface
	run            string
	commit, submit *redis.Script
}

// NewStore returns the store of a run. It sends nothing.
func NewStore(rdb cache.RedisInterface, o Options) *Store {
	return &Store{rdb: rdb, run: o.Run, commit: redis.NewScript(commitLua), submit: redis.NewScript(submitLua)}
}

// key makes a name that shares its hash tag with all names of this run, so that scripts work on a cluster.
func (s *Store) key(what string) string { return "example:{" + s.run + "}:" + what }

func (s *Store) todoKey() string            { return s.key("todo") }
func (s *Store) stateKey(id string) string  { return s.key("state:" + id) }
func (s *Store) ledgerKey(id string) string { return s.key("ledger:" + id) }

// Resource names the lock of a workflow.
func (s *Store) Resource(id string) string { return "workflow/" + id }

// ID returns the ID of the n-th workflow of this run. Processes that share a run make the same ones.
func (s *Store) ID(n int) string { return fmt.Sprintf("%s-%04d", s.run, n) }

// NextID returns an ID that no process of this run has had, even if Redis has lost its data since: the numbers begin
// anew then, and the series that they belong to has another name.
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

// Submit adds a workflow, unless it is there already.
func (s *Store) Submit(ctx context.Context, id string) error {
	state, err := json.Marshal(newWorkflow(s.run, id, time.Now()))
	if err != nil {
		return err
	}
	return s.submit.Run(ctx, s.rdb, []string{s.stateKey(id), s.todoKey()}, state, id, seconds(keep)).Err()
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

// Load returns the state of a workflow, or errVanished.
func (s *Store) Load(ctx context.Context, id string) (Workflow, error) {
	raw, err := s.rdb.Get(ctx, s.stateKey(id)).Bytes()
	if isMissing(err) {
		return Workflow{}, errVanished
	}
	if err != nil {
		return Workflow{}, err
	}
	var w Workflow
	err = json.Unmarshal(raw, &w)
	return w, err
}

// Commit replaces the state old by next and notes the fact that led there, both or neither. It returns errFencedOff
// if old is not the state any more or a holder of a later lock has been there, and errVanished.
func (s *Store) Commit(ctx context.Context, old, next Workflow, fact string) error {
	state, err := json.Marshal(next)
	if err != nil {
		return err
	}
	entry, err := json.Marshal(factOf(fact, next.Worker, next.Token, old))
	if err != nil {
		return err
	}
	reply, err := s.commit.Run(ctx, s.rdb, []string{s.stateKey(next.ID), s.ledgerKey(next.ID)},
		old.Seq, state, entry, seconds(keep)).Int()
	switch {
	case err != nil:
		return err
	case reply < 0:
		return errVanished
	case reply == 0:
		return errors.Join(errFencedOff, s.Note(ctx, factRefused, next.Worker, next.Token, old))
	}
	return nil
}

// Note appends a fact on the next step of w, whoever may hold the lock.
func (s *Store) Note(ctx context.Context, what, worker string, token int64, w Workflow) error {
	entry, err := json.Marshal(factOf(what, worker, token, w))
	if err != nil {
		return err
	}
	return s.rdb.RPush(ctx, s.ledgerKey(w.ID), entry).Err()
}

func factOf(what, worker string, token int64, w Workflow) Fact {
	return Fact{What: what, Step: w.Step, Attempt: w.Attempt, Token: token, Worker: worker, At: time.Now()}
}

// Ledger returns all facts on a workflow, in the order in which Redis got them.
func (s *Store) Ledger(ctx context.Context, id string) ([]Fact, error) {
	entries, err := s.rdb.LRange(ctx, s.ledgerKey(id), 0, -1).Result()
	if err != nil {
		return nil, err
	}
	facts := make([]Fact, len(entries))
	for i, entry := range entries {
		if err := json.Unmarshal([]byte(entry), &facts[i]); err != nil {
			return nil, fmt.Errorf("ledger of %s: %w", id, err)
		}
	}
	return facts, nil
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
// the bare reply counts, or an outage would look like lost state.
func isMissing(err error) bool { return err == redis.Nil } //nolint:errorlint // see above

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
