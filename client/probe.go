package client

import (
	"cmp"
	"context"
	_ "embed" // probe.lua
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

// probeSource leaves nothing behind, and calls every command that the scripts of locks, events and the store call.
//
//go:embed probe.lua
var probeSource string

// server is one of those that a Redis talks to: the main one, or a lock node.
type server struct {
	client      redis.UniversalClient
	endpoint    *endpoint
	dial        dialFunc // through the gate
	plain       dialFunc // the same without TLS
	peers       *peers   // those that dial leads to
	gate        *gate
	log         *zap.Logger
	script      *redis.Script // of the probe
	prefix      string        // of keys and channels
	pingTimeout time.Duration // of a check
	fit         atomic.Bool   // a check has succeeded
	overdue     overdue       // checks

	mu       sync.Mutex
	warnings []string // those of the last check that succeeded
	runID    string   // what the server last said about its identity, if it did
	version  string   // and about product and version
}

// name is how logs and errors call the server at addr, which is one of s.
func (s *server) name(addr string) string {
	if s.endpoint.lockNode {
		return "lock node " + addr
	}
	return addr
}

// check finds out whether the server, or every master of a Cluster, can do what this
// module needs. It returns nil, ErrNotStarted, ErrClosed or an *Error, soon after ctx has ended whatever the hooks of the
// client do.
func (s *server) check(ctx context.Context) error {
	late, err := s.overdue.call(ctx, maxOverdueChecks, func() error { return s.examine(ctx) }, func() {})
	switch {
	case late:
		return s.failure(s.endpoint.String(), ErrUnreachable, s.late(err))
	case err != nil:
		return s.explain(ctx, s.endpoint.String(), err)
	default:
		return nil
	}
}

// examine is check, which calls it in a goroutine of its own.
func (s *server) examine(ctx context.Context) error {
	asking, cancel := s.patience(ctx)
	defer cancel()
	if err := s.reachable(asking); err != nil {
		return s.explain(ctx, s.endpoint.String(), err)
	}
	began := s.peers.now()
	targets, err := s.targets(asking)
	if err != nil {
		s.unanswered(err, began, true) // any node was asked
		return s.explain(ctx, s.endpoint.String(), err)
	}
	errs := make([]error, len(targets))
	warnings := make([][]string, len(targets))
	ended := make([]<-chan error, len(targets))
	for i, t := range targets {
		ended[i] = redisx.Go(func() (err error) {
			if warnings[i], err = s.inspect(asking, t); err != nil {
				s.unanswered(err, began, s.endpoint.mode == modeSentinel) // sentinels as well
				err = s.explain(ctx, t.addr, err)
			}
			return err
		})
	}
	for i := range ended {
		errs[i] = <-ended[i]
	}
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	s.fit.Store(true)
	s.warn(slices.Concat(warnings...))
	return nil
}

// unanswered has connections replaced if err says that the check that began then got no
// answer in time: it may well be that none of them gets any. A check that had less than half
// of its time, as its caller did not wait for longer, proves nothing.
func (s *server) unanswered(err error, began int64, everywhere bool) {
	late := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	if late && time.Duration(s.peers.now()-began) >= s.pingTimeout/2 {
		s.peers.distrust(began, everywhere)
	}
}

// warn remembers what the last check found worth a warning, and logs what is new.
func (s *server) warn(warnings []string) {
	s.mu.Lock()
	known := s.warnings
	s.warnings = warnings
	s.mu.Unlock() // a log may be slow
	for _, w := range warnings {
		if !slices.Contains(known, w) {
			s.log.Warn("cache: " + w)
		}
	}
}

// patience returns the context of a check. Until a TLS server has answered for the
// first time it leaves a quarter of the time to find out whether it speaks TLS at all:
// Redis without TLS gives no answer to a handshake.
func (s *server) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || s.endpoint.tls == nil || s.fit.Load() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/4))
}

// reachable returns an error if no sentinel answers and there is no connection to a
// master. go-redis writes two lines to stderr for each sentinel that it asks in vain,
// and repeats its questions for longer than a check lasts, so this is found out
// without it.
func (s *server) reachable(ctx context.Context) error {
	if s.endpoint.mode != modeSentinel || s.client.PoolStats().TotalConns > 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make([]<-chan error, len(s.endpoint.addrs)) // awaited, so that nothing is left behind
	for i, addr := range s.endpoint.addrs {
		ended[i] = redisx.Go(func() error {
			_, err := s.firstByte(ctx, s.dial, addr, ping)
			if err == nil {
				cancel() // ends the others
			}
			return err
		})
	}
	var errs []error
	reached := false
	for i := range ended {
		err := <-ended[i]
		reached = reached || err == nil
		errs = append(errs, err)
	}
	if reached {
		return nil
	}
	return errors.Join(errs...)
}

// poolIsBusy reports whether a check met err because no connection of the pool, or of that of
// one of a Cluster's masters, came free. It asks no server.
func (s *server) poolIsBusy(ctx context.Context, err error) bool {
	met := func(known error) bool { return errors.Is(err, known) }
	if !slices.ContainsFunc([]error{context.DeadlineExceeded, redis.ErrPoolTimeout, redis.ErrPoolExhausted}, met) {
		return false
	}
	busy := func(_ context.Context, c *redis.Client) error {
		if stats := c.PoolStats(); int(stats.TotalConns)-int(stats.IdleConns) >= s.endpoint.maxConns() {
			return redis.ErrPoolTimeout
		}
		return nil
	}
	ended, cancel := context.WithCancel(ctx)
	cancel() // a Cluster's client would ask for the masters that it knows
	switch c := s.client.(type) {
	case *redis.Client:
		err = busy(ended, c)
	case *redis.ClusterClient:
		err = c.ForEachMaster(ended, busy)
	}
	return errors.Is(err, redis.ErrPoolTimeout)
}

// target is a Redis to be checked: the server itself, or one master of a Cluster.
type target struct {
	addr string // for errors and warnings
	key  string // of the probe
	node *redis.Client
}

// targets returns what is to be checked. Only a Cluster has to be asked for it.
func (s *server) targets(ctx context.Context) ([]target, error) {
	probe := s.prefix + "probe:"
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		node, _ := s.client.(*redis.Client) // which endpoint.connect has made
		return []target{{addr: s.endpoint.String(), key: probe + "{0}", node: node}}, nil
	}
	// Servers that are too old do not know the successor, and their version is to be named.
	slots, err := cluster.ClusterSlots(ctx).Result() //nolint:staticcheck // see above
	if err != nil {
		return nil, err
	}
	var targets []target
	seen, served := make(map[string]bool), 0
	for _, r := range slots {
		if len(r.Nodes) == 0 {
			continue
		}
		served += r.End - r.Start + 1
		master := cmp.Or(r.Nodes[0].ID, r.Nodes[0].Addr)
		if seen[master] {
			continue
		}
		seen[master] = true
		key := probe + redisx.SlotTag(r.Start, r.End)
		node, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target{addr: node.Options().Addr, key: key, node: node})
	}
	if served < clusterSlots {
		return nil, fmt.Errorf("%w, but %d of %d", errSlots, served, clusterSlots)
	}
	return targets, nil
}

// clusterSlots is how many slots there are in each Cluster.
const clusterSlots = 16384

// errSlots is the state of a Cluster that was not put together, or lost some: the keys of these
// have no server, although others are served if its cluster-require-full-coverage says no.
var errSlots = errors.New("it does not serve all slots")

// inspect checks one Redis: until a check has succeeded, also whether it lets us listen.
// That needs a connection of its own, and so does not come with each check.
func (s *server) inspect(ctx context.Context, t target) (warnings []string, err error) {
	listening := redisx.Go(func() error {
		if s.endpoint.lockNode || s.fit.Load() {
			return nil
		}
		return s.listen(ctx, t)
	})
	said := s.ask(ctx, t)
	if err := said.server.Err(); err != nil && !redisx.IsReply(err) && !redisx.IsUnsent(err) && ctx.Err() == nil {
		// The connection was one of the pool's that had died. go-redis takes another one for a
		// single command by itself, but not here.
		said = s.ask(ctx, t)
	}
	refused := s.probed(ctx, t, said)
	deaf := <-listening
	info, infoErr := said.server.Result()
	// What a server does not say of itself counts as unknown, an error is another's.
	if infoErr != nil && !redisx.IsReply(infoErr) {
		return nil, infoErr
	}
	if problem := s.misfit(ctx, info, t.node); problem != "" {
		return nil, s.failure(t.addr, ErrUnsupported, s.endpoint.advised(problem, nil))
	}
	if err := cmp.Or(refused, deaf); err != nil {
		return nil, err
	}
	product, version, _ := serverVersion(info)
	s.mu.Lock()
	s.runID, s.version = runID(info), strings.TrimSpace(product+" "+version)
	s.mu.Unlock()
	for _, w := range said.warnings() {
		warnings = append(warnings, s.name(t.addr)+": "+w)
	}
	return warnings, nil
}

// answers are those to the questions of a check.
type answers struct {
	server, state *redis.StringCmd // of INFO
	table         *redis.Cmd       // of COMMAND, which only a Cluster is asked for
	byHash        *redis.Cmd       // of the probe's script
	whole         *redis.Cmd       // of the same, sent in full; nil if it was not
	multi, exec   *redis.Cmd       // of a transaction without commands, by which events are read; nil likewise
}

// ask sends all questions at once on one connection of the pool, so that a distant server
// needs no longer for them than for a PING, and a pool of one connection is enough. (A
// pipeline of the client itself would use a connection beside the pool, which nothing has
// opened in advance.)
func (s *server) ask(ctx context.Context, t target) answers {
	var a answers
	conn := t.node.Conn()
	defer func() { _ = conn.Close() }() // gives the connection back
	cmds, err := conn.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		a.server = pipe.Info(ctx, "server")
		a.state = pipe.Info(ctx, "memory", "replication")
		if s.endpoint.mode == modeCluster {
			a.table = pipe.Do(ctx, "command", "count")
		}
		a.byHash = s.script.EvalSha(ctx, pipe, []string{t.key}, s.channel(), 0)
		if !s.fit.Load() { // both ways need to work, and all commands
			a.whole = s.script.Eval(ctx, pipe, []string{t.key}, s.channel(), 1)
			if !s.endpoint.lockNode {
				a.multi, a.exec = pipe.Do(ctx, "multi"), pipe.Do(ctx, "exec")
			}
		}
		return nil
	})
	redisx.Unsent(cmds, err)
	return a
}

// channel is where the probe's script publishes to; a lock node has no events.
func (s *server) channel() string {
	if s.endpoint.lockNode {
		return ""
	}
	return s.prefix + "probe"
}

// probed returns what the server said to the probe's script. A server that does not know
// it by its hash gets it in full, and a slot that is on its way to another node of the
// Cluster is found by the client of the application.
func (s *server) probed(ctx context.Context, t target, said answers) error {
	err, thorough := said.byHash.Err(), 0
	if said.whole != nil {
		thorough = 1
		if whole := said.whole.Err(); whole != nil || redisx.IsUnknownScript(err) {
			err = whole
		}
	}
	if redisx.IsUnknownScript(err) || s.endpoint.mode == modeCluster && isRedirect(err) {
		err = s.script.Eval(ctx, s.client, []string{t.key}, s.channel(), thorough).Err()
	}
	if said.multi != nil {
		err = cmp.Or(err, said.multi.Err(), said.exec.Err())
	}
	return err
}

// listen subscribes to a name that nobody publishes to, in each way that locks and events
// do, unsubscribes and sends a PING, and returns what the server refuses. It does not report
// a connection that breaks or takes too long, as the questions of ask do that.
func (s *server) listen(ctx context.Context, t target) error {
	ps := t.node.Subscribe(ctx) // connects with the first command
	defer context.AfterFunc(ctx, func() { _ = ps.Close() })()
	defer func() { _ = ps.Close() }()
	ways := []func(context.Context, ...string) error{ps.Subscribe, ps.PSubscribe}
	if s.endpoint.mode == modeCluster {
		ways = append(ways, ps.SSubscribe)
	}
	// All leave before the first answer is read.
	ways = append(ways, ps.Unsubscribe, ps.PUnsubscribe, ps.Ping)
	for _, send := range ways {
		if err := send(ctx, t.key); err != nil {
			return onlyReply(err)
		}
	}
	for range ways {
		// A glob is granted only in these very words, so that one of ours says nothing about
		// those of the application.
		if _, err := ps.Receive(ctx); err != nil && !isChannelRefusal(err) {
			return onlyReply(err)
		}
	}
	return nil
}

// onlyReply returns err if a server said it, and did not name another server for the name.
func onlyReply(err error) error {
	if redisx.IsReply(err) && !isRedirect(err) {
		return err
	}
	return nil
}
