package client

import (
	"cmp"
	"context"
	_ "embed" // probe.lua
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redisx"
)

// probeSource leaves nothing behind, but needs all that the scripts of locks and events need.
//
//go:embed probe.lua
var probeSource string

// probeKey is what the probe's key begins with, after the key prefix.
const probeKey = "probe:"

// server is one of those that a Redis talks to: the main one, or a lock node.
type server struct {
	client   redis.UniversalClient
	endpoint *endpoint
	dial     dialFunc // through the gate
	plain    dialFunc // the same without TLS
	peers    *peers   // those that dial leads to
	gate     *gate
	log      *zap.Logger
	lockNode bool
	script   *redis.Script // of the probe
	prefix   string        // of its key
	answered atomic.Bool   // a command or a check has succeeded
	fit      atomic.Bool   // a check has succeeded

	pingTimeout time.Duration // of a check

	mu       sync.Mutex
	warnings []string // those of the last check that succeeded
	runID    string   // what the server last said about its identity, if it did
}

// newServer returns the server that c talks to.
func newServer(
	c redis.UniversalClient, e *endpoint, dial dialFunc, servers *peers, g *gate, cfg *config.Config, log *zap.Logger,
) *server {
	bare := *e
	bare.tls, bare.provided = nil, nil
	return &server{
		client: c, endpoint: e, dial: dial, plain: g.dialer(cfg.Dialer, &bare, newPeers(0)), gate: g,
		peers: servers, pingTimeout: cfg.PingTimeout,
		log: log, script: redis.NewScript(probeSource), prefix: cfg.KeyPrefix + probeKey,
	}
}

// target is a Redis to be checked: the server itself, or one master of a Cluster.
type target struct {
	addr     string         // for errors and warnings
	key      string         // of the probe
	commands redis.Scripter // what an application's commands go through
	node     *redis.Client  // the node itself
}

// check finds out whether the server, or every master of a Cluster, can do what this
// module needs. It returns nil, ErrNotStarted, ErrClosed or an *Error.
func (s *server) check(ctx context.Context) error {
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
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() {
			if warnings[i], errs[i] = s.inspect(asking, t); errs[i] != nil {
				s.unanswered(errs[i], began, s.endpoint.mode == modeSentinel) // sentinels as well
				errs[i] = s.explain(ctx, t.addr, errs[i])
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	s.succeeded() // the commands of a Cluster's nodes do not pass our hook
	s.fit.Store(true)
	s.warn(slices.Concat(warnings...))
	return nil
}

// succeeded notes that the server has answered.
func (s *server) succeeded() {
	if !s.answered.Load() { // reading is cheaper than writing
		s.answered.Store(true)
	}
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
	results := make(chan error, len(s.endpoint.addrs))
	for _, addr := range s.endpoint.addrs {
		go func() {
			_, err := firstByte(ctx, s.dial, s.endpoint.network, addr)
			results <- err
		}()
	}
	// All of them are awaited, so that nothing is left behind; the first that answers
	// ends the others.
	var errs []error
	reached := false
	for range s.endpoint.addrs {
		if err := <-results; err != nil {
			errs = append(errs, err)
			continue
		}
		reached = true
		cancel()
	}
	if reached {
		return nil
	}
	return errors.Join(errs...)
}

// firstByte sends a PING over a new connection and returns how the answer begins: with
// a plus or a minus, if the server speaks the protocol of Redis in the way that dial
// does. It returns the error of ctx if that ends first.
func firstByte(ctx context.Context, dial dialFunc, network, addr string) (byte, error) {
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	reply := make([]byte, 1)
	if _, err = conn.Write([]byte("PING\r\n")); err == nil {
		_, err = io.ReadFull(conn, reply)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return reply[0], err
}

// targets returns what is to be checked. Only a Cluster has to be asked for it.
func (s *server) targets(ctx context.Context) ([]target, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		node, _ := s.client.(*redis.Client) // which endpoint.connect has made
		return []target{{addr: s.endpoint.String(), key: s.prefix + "{0}", commands: node, node: node}}, nil
	}
	// Servers that are too old do not know the successor, and their version is to be named.
	slots, err := cluster.ClusterSlots(ctx).Result() //nolint:staticcheck // see above
	if err != nil {
		return nil, err
	}
	var targets []target
	seen := make(map[string]bool)
	for _, r := range slots {
		if len(r.Nodes) == 0 {
			continue
		}
		master := cmp.Or(r.Nodes[0].ID, r.Nodes[0].Addr)
		if seen[master] {
			continue
		}
		seen[master] = true
		key := s.prefix + keyTag(r.Start, r.End)
		node, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target{addr: node.Options().Addr, key: key, commands: cluster, node: node})
	}
	if len(targets) == 0 {
		return nil, errNoSlots
	}
	return targets, nil
}

// errNoSlots is the state of a Cluster that was never put together.
var errNoSlots = errors.New("no node of the cluster serves any slot")

// inspect checks one Redis: until a check has succeeded, also whether it lets us listen.
// That needs a connection of its own, and so does not come with each check.
func (s *server) inspect(ctx context.Context, t target) (warnings []string, err error) {
	var (
		deaf      error
		listening sync.WaitGroup
	)
	if !s.lockNode && !s.fit.Load() {
		listening.Go(func() { deaf = s.listen(ctx, t) })
	}
	said := s.ask(ctx, t)
	if said.broken() && ctx.Err() == nil {
		// The connection was one of the pool's that had died. go-redis takes another one for a
		// single command by itself, but not here.
		said = s.ask(ctx, t)
	}
	refused := s.probed(ctx, t, said)
	listening.Wait()
	info, infoErr := said.server.Result()
	// What a server does not say of itself counts as unknown, an error is another's.
	if infoErr != nil && !redisx.IsReply(infoErr) {
		return nil, infoErr
	}
	if problem := s.misfit(ctx, info, t.node); problem != "" {
		return nil, s.failure(t.addr, ErrUnsupported, errors.New(problem))
	}
	if err := cmp.Or(refused, deaf); err != nil {
		return nil, err
	}
	s.identified(info)
	name := t.addr
	if s.lockNode {
		name = "lock node " + name
	}
	state := said.state.Val() // unknown if refused
	for _, w := range []string{unknownVersion(info, infoErr), evictionWarning(state), replicaWarning(state), said.tableWarning()} {
		if w != "" {
			warnings = append(warnings, name+": "+w)
		}
	}
	return warnings, nil
}

// identified remembers which server describes itself by info. Other products than Redis
// and Valkey may not give each server a run_id of its own.
func (s *server) identified(info string) {
	id := ""
	if _, _, oldest := serverVersion(info); oldest > 0 {
		id = infoField(info, "run_id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runID = id
}

// sameAs reports whether s and other are known to be one server.
func (s *server) sameAs(other *server) bool {
	s.mu.Lock()
	id := s.runID
	s.mu.Unlock()
	other.mu.Lock()
	defer other.mu.Unlock()
	return id != "" && id == other.runID
}

// replicaWarning returns a warning if the server that describes its replication by info,
// and has just accepted a write, is a replica.
func replicaWarning(info string) string {
	if infoField(info, "role") != "slave" {
		return ""
	}
	return "it is a replica that accepts writes, which its master never gets; use the master, or set replica-read-only yes"
}

// tableWarning returns a warning if a Cluster refuses the table of commands, which go-redis
// then asks it for again before each command.
func (a answers) tableWarning() string {
	if a.table == nil || !redisx.IsReply(a.table.Err()) {
		return ""
	}
	return "COMMAND is refused, which go-redis then sends before each command, with a line on stderr each time; grant +command: " +
		discreetReply(a.table.Err()).Error()
}

// evictionWarning returns a warning if the server that describes its memory by info
// may throw away keys of ours: locks and journals have a time to live, so that the
// volatile policies take them as well.
func evictionWarning(info string) string {
	policy := infoField(info, "maxmemory_policy")
	if policy == "" || policy == "noeviction" {
		return ""
	}
	return fmt.Sprintf("maxmemory-policy %s may evict locks and events; set maxmemory-policy noeviction", policy)
}

// warn remembers what the last check found worth a warning, and logs what is new.
func (s *server) warn(warnings []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range warnings {
		if !slices.Contains(s.warnings, w) {
			s.log.Warn("cache: " + w)
		}
	}
	s.warnings = warnings
}
