package near

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/redisx"
)

const (
	minPause = 10 * time.Millisecond // before the first attempt to connect again
	maxPause = time.Second
	// handshake is how long opening a session's connections may take.
	handshake = 5 * time.Second
	// rounds is how many there are in the smallest MaxStaleness. Before an answer the watermark is up to two rounds old.
	rounds = 3
)

// ErrClosed is Status.Cause after Close.
var ErrClosed = errors.New("store: the near cache is closed")

// errPrefixes ends sessions that do not hear what a new cache needs.
var errPrefixes = errors.New("store: a near cache was added")

// Settings of a Tracker.
type Settings struct {
	// Client leads to the server; what it is set to is used for connections of the tracker's own. It is one that go-redis
	// made for a server, for Sentinel or for a Cluster, or wraps one.
	Client redis.UniversalClient
	// Channel is where changed keys are published for servers without tracking; see Channel. The empty payload means all.
	Channel string
	// Logger defaults to none.
	Logger *zap.Logger
}

// Tracker hears which keys change in Redis, for all caches. It is safe for concurrent use.
type Tracker struct {
	set   Settings
	trust *trust

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	began  atomic.Bool // start need not be called any more

	changes                 chan struct{} // asks for another look at the cluster; never holds more than one
	failing, falling, alien redisx.Repeated

	mu       sync.Mutex // guards what follows
	started  bool
	closed   bool
	caches   []*Cache      // a slice that is replaced, never changed
	prefixes []string      // what sessions ask for; as caches
	limit    time.Duration // the smallest MaxStaleness
	masters  map[string]*master
	cause    error
	flushes  int64
}

// New returns a Tracker that does nothing before there is a cache, and Start or Begin of a cache was called. It returns an
// *arguments.Error for a client of which nothing is known.
func New(set Settings) (*Tracker, error) {
	if redisx.IsNil(set.Client) {
		return nil, &arguments.Error{Argument: "Client", Reason: "is nil"}
	}
	_, single := redisx.Unwrap[*redis.Client](set.Client)
	_, cluster := redisx.Unwrap[*redis.ClusterClient](set.Client)
	if !single && !cluster {
		return nil, &arguments.Error{
			Argument: "Client", Reason: "is neither a *redis.Client nor a *redis.ClusterClient, nor wraps one",
		}
	}
	if set.Channel == "" {
		return nil, &arguments.Error{Argument: "Channel", Reason: "is empty"}
	}
	if set.Logger == nil {
		set.Logger = zap.NewNop()
	}
	t := &Tracker{set: set, trust: newTrust(), changes: make(chan struct{}, 1), masters: make(map[string]*master)}
	t.ctx, t.cancel = context.WithCancel(redisx.Background(context.Background()))
	return t, nil
}

// NewCache returns a cache whose keys are tracked from now on. It returns an *arguments.Error for settings that cannot be
// used. Sessions that there are end, and all caches with them are emptied.
func (t *Tracker) NewCache(set CacheSettings) (*Cache, error) {
	if err := set.validate(); err != nil {
		return nil, err
	}
	c := newCache(set, t.trust, t.Start)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.caches = append(slices.Clip(t.caches), c)
	t.prefixes = disjoint(append(append([]string{set.Prefix}, set.Depends...), t.prefixes...))
	if t.limit == 0 || set.MaxStaleness < t.limit {
		t.limit = set.MaxStaleness
	}
	for _, m := range t.masters {
		m.restart(errPrefixes)
		m.unheard()
	}
	t.weigh()
	t.began.Store(t.started || t.closed)
	return c, nil
}

// Start begins to track. It does not wait, and may be called before the client may connect. The first Begin of a cache does
// the same. Without a cache, again or after Close it does nothing.
func (t *Tracker) Start() {
	if t.began.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started || t.closed || len(t.caches) == 0 {
		return
	}
	t.started = true
	t.began.Store(true)
	if c, ok := redisx.Unwrap[*redis.ClusterClient](t.set.Client); ok {
		t.work.Go(func() { t.survey(c) })
		return
	}
	t.follow("", nil)
}

// Close ends the connections and waits for the goroutines. If ctx ends before, it returns the cause of ctx. Caches go on
// without values that may be served. It may be repeated.
func (t *Tracker) Close(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	t.cause = ErrClosed
	t.began.Store(true)
	caches := t.caches
	t.mu.Unlock()
	t.cancel()
	done := make(chan struct{})
	go func() {
		t.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	t.trust.end()
	for _, c := range caches {
		c.Clear()
	}
	return nil
}

// Status is what a Tracker is like at one moment.
type Status struct {
	// Up says that changes of all keys are heard.
	Up bool
	// Published says that a server does not track, so that Settings.Channel has to be published to.
	Published bool
	// Masters is how many servers there are to listen to.
	Masters int
	// Age is how old the knowledge is: Get serves nothing while it is more than MaxStaleness. It is negative if there is
	// none.
	Age time.Duration
	// Flushes is how often the caches were emptied by FLUSHALL or a new session.
	Flushes int64
	// Cause is why a session ended last, or could not begin; nil if none ever has.
	Cause error
}

// Status returns what the tracker is like. It sends nothing.
func (t *Tracker) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Status{Up: t.trust.open.Load(), Masters: len(t.masters), Age: -1, Flushes: t.flushes, Cause: t.cause}
	if w := t.trust.watermark.Load(); w != never {
		s.Age = time.Duration(t.trust.now() - w)
	}
	for _, m := range t.masters {
		s.Published = s.Published || m.ready && m.published
	}
	return s
}

// follow begins to keep a session with a master. It is called with mu held.
func (t *Tracker) follow(addr string, node *redis.Client) {
	m := &master{t: t, addr: addr, node: node, mark: never}
	m.ctx, m.cancel = context.WithCancel(t.ctx)
	t.masters[addr] = m
	t.work.Go(m.run)
}

// change changes what is known of masters, and what follows from that.
func (t *Tracker) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	t.weigh()
}

// weigh decides what caches may serve. It is called with mu held.
func (t *Tracker) weigh() {
	ready, mark := len(t.masters) > 0 && !t.closed, int64(1<<62)
	for _, m := range t.masters {
		ready = ready && m.ready
		mark = min(mark, m.mark)
	}
	switch {
	case !ready:
		t.trust.end()
	case !t.trust.open.Load():
		t.trust.begin()
		t.empty()
		t.trust.open.Store(true)
		t.failing.Over(t.set.Logger, "store: near cache tracks changes")
	}
	if ready {
		t.trust.watermark.Store(mark)
	}
}

// flushed is called when all keys have gone.
func (t *Tracker) flushed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trust.epoch.Add(1)
	t.empty()
}

// empty frees what is not served any more. It is called with mu held.
func (t *Tracker) empty() {
	t.flushes++
	for _, c := range t.caches {
		c.values.InvalidateAll()
	}
}

// changed is called when keys have changed.
func (t *Tracker) changed(keys []any) {
	t.mu.Lock()
	caches := t.caches
	t.mu.Unlock()
	for _, k := range keys {
		key, ok := k.(string)
		if !ok {
			continue
		}
		for _, c := range caches {
			c.Changed(key)
		}
	}
}

// plan returns what a session asks for, and for how long an answer may take.
func (t *Tracker) plan() (prefixes []string, limit time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.prefixes, t.limit
}

// look asks for another look at the cluster.
func (t *Tracker) look() {
	select {
	case t.changes <- struct{}{}:
	default:
	}
}

// failed notes why there is no session.
func (t *Tracker) failed(err error, failures int) {
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.cause = err
	}
	t.mu.Unlock()
	if !closed {
		t.failing.Log(t.set.Logger, zap.WarnLevel, "store: near cache lost its connection and serves nothing",
			zap.Error(err), zap.Int("failures", failures))
	}
}
