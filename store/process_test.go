package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store"
	"github.com/compozy/cache/store/internal/lease"
)

// processEnv makes the test binary a process that does what it reads, with a Cache on the server that the variable names.
const processEnv = "STORE_TEST_PROCESS"

// task is what a process is to do.
type task struct {
	Op      string
	Key     string
	Value   string
	Callers int           // for each key
	Keys    int           // Key0, Key1, …; 0 for Key alone
	Delay   time.Duration // of the loader
	Fail    bool
	Tags    []string
}

// report is what has come of it.
type report struct {
	Loads    int
	Commands int // without TIME
	Values   []string
	Errors   []string
}

// counter counts the commands of a client, without TIME.
type counter struct {
	redistest.Hook

	count atomic.Int64
}

func (c *counter) see(cmd redis.Cmder) {
	if slices.Contains([]string{"get", "mget", "eval", "evalsha", "publish"}, cmd.Name()) {
		c.count.Add(1)
	}
}

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.see(cmd)
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			c.see(cmd)
		}
		return next(ctx, cmds)
	}
}

// worker is what such a process consists of.
type worker struct {
	ctx    context.Context
	client *redis.Client
	cache  *store.Cache[string]
	count  counter
	tasks  *bufio.Scanner
}

// runProcess does what it reads until its input ends.
func runProcess(addr string) {
	w := &worker{
		ctx: context.Background(), tasks: bufio.NewScanner(os.Stdin),
		client: redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true}),
	}
	w.client.AddHook(&w.count)
	s := must(store.New(w.client, store.WithTimeout(patience)))
	w.cache = must(store.NewCache[string](s, name, store.WithJitter(0)))
	for w.tasks.Scan() {
		var t task
		if err := json.Unmarshal(w.tasks.Bytes(), &t); err != nil {
			panic(err)
		}
		w.answer(w.do(t))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *worker) answer(r report) { fmt.Println(string(must(json.Marshal(r)))) }

func (w *worker) do(t task) report {
	switch t.Op {
	case "load":
		return w.load(t)
	case "hold":
		return w.hold(t)
	case "race":
		return w.race(t)
	case "set":
		must(0, w.cache.Set(w.ctx, t.Key, t.Value))
	default:
		panic(t.Op)
	}
	return report{}
}

// load has callers load keys.
func (w *worker) load(t task) report {
	var mu sync.Mutex
	var r report
	note := func(list *[]string, text string) {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	keys := []string{t.Key}
	for i := range t.Keys - 1 {
		keys = append(keys, t.Key+strconv.Itoa(i))
	}
	before := w.count.count.Load()
	var all sync.WaitGroup
	var ran atomic.Int64
	for _, key := range keys {
		for range max(t.Callers, 1) {
			all.Go(func() {
				v, err := w.cache.GetOrLoad(w.ctx, key, func(ctx context.Context) (string, error) {
					ran.Add(1)
					_ = redisx.Sleep(ctx, t.Delay)
					if t.Fail {
						return "", errDatabase
					}
					return t.Value, nil
				})
				if err != nil {
					note(&r.Errors, err.Error())
				} else {
					note(&r.Values, v)
				}
			})
		}
	}
	all.Wait()
	r.Loads, r.Commands = int(ran.Load()), int(w.count.count.Load()-before)
	return r
}

// hold loads a key, says when the loader runs, and lets it end with the next line.
func (w *worker) hold(t task) report {
	item, err := w.cache.GetOrLoadItem(w.ctx, t.Key, func(context.Context) (string, error) {
		w.answer(report{Loads: 1})
		w.tasks.Scan()
		return t.Value, nil
	})
	if err != nil {
		return report{Errors: []string{err.Error()}}
	}
	return report{Values: []string{item.Value, strconv.FormatInt(int64(item.Version), 10)}}
}

// race reads a key whose value in what stands for a database is a number, and writes it if it has Callers. Errors says what
// was older than it may be.
func (w *worker) race(t task) report {
	var mu sync.Mutex
	var r report
	row, confirmed := "db:"+t.Key, "confirmed:"+t.Key
	read := func(key string) int {
		n, err := w.client.Get(w.ctx, key).Int()
		if err != nil && !errors.Is(err, redis.Nil) {
			panic(err)
		}
		return n
	}
	loader := func(ctx context.Context) (string, error) {
		n := read(row)
		return strconv.Itoa(n), redisx.Sleep(ctx, rand.N(3*time.Millisecond))
	}
	check := func(least int, what string) {
		v := must(w.cache.GetOrLoad(w.ctx, t.Key, loader, store.WithTags(t.Tags...)))
		if n := must(strconv.Atoi(v)); n < least {
			mu.Lock()
			defer mu.Unlock()
			r.Errors = append(r.Errors, fmt.Sprintf("%s: %d after %d", what, n, least))
		}
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				_ = redisx.Sleep(w.ctx, rand.N(2*time.Millisecond))
				check(read(confirmed), "read")
			}
		})
	}
	if t.Callers > 0 {
		all.Go(func() {
			for range 4 {
				_ = redisx.Sleep(w.ctx, rand.N(3*time.Millisecond))
				n := int(w.client.Incr(w.ctx, row).Val())
				switch {
				case len(t.Tags) > 0 && rand.N(4) > 0:
					must(0, w.cache.InvalidateTag(w.ctx, t.Tags[rand.N(len(t.Tags))]))
				case rand.N(2) == 0:
					must(0, w.cache.Set(w.ctx, t.Key, strconv.Itoa(n), store.WithTags(t.Tags...)))
				default:
					must(0, w.cache.Delete(w.ctx, t.Key))
				}
				must(0, w.client.Set(w.ctx, confirmed, n, 0).Err())
				check(n, "own write")
			}
		})
	}
	all.Wait()
	return r
}

// process is such a process.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startProcess(t testing.TB, server *redistest.Server) *process {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), processEnv+"="+server.Addr())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &process{cmd, in, bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

// startProcesses returns processes that know the scripts and hear of each other.
func startProcesses(t testing.TB, server *redistest.Server, n int) []*process {
	t.Helper()
	processes := make([]*process, n)
	for i := range processes {
		processes[i] = startProcess(t, server)
	}
	for i, r := range together(t, processes, task{Op: "load", Key: "warm", Delay: 50 * time.Millisecond}) {
		require.Empty(t, r.Errors, i)
	}
	for _, r := range together(t, processes, task{Op: "load", Key: "warm too", Delay: 50 * time.Millisecond, Fail: true}) {
		require.NotEmpty(t, r.Errors)
	}
	return processes
}

func (p *process) send(t testing.TB, what task) {
	t.Helper()
	line, err := json.Marshal(what)
	require.NoError(t, err)
	_, err = p.in.Write(append(line, '\n'))
	require.NoError(t, err)
}

func (p *process) receive(t testing.TB) (r report) {
	t.Helper()
	lines := make(chan bool, 1)
	go func() { lines <- p.out.Scan() }()
	require.True(t, receive(t, lines, "a process"), "the process has ended")
	require.NoError(t, json.Unmarshal(p.out.Bytes(), &r))
	return r
}

// together has all processes do the same at the same time.
func together(t testing.TB, processes []*process, what task) []report {
	t.Helper()
	for _, p := range processes {
		p.send(t, what)
	}
	reports := make([]report, len(processes))
	for i, p := range processes {
		reports[i] = p.receive(t)
	}
	return reports
}

func sum(reports []report, of func(report) int) (total int) {
	for _, r := range reports {
		total += of(r)
	}
	return total
}

func countLoads(r report) int    { return r.Loads }
func countCommands(r report) int { return r.Commands }

func TestManyCallersInManyProcessesLoadOnce(t *testing.T) {
	t.Parallel()
	processes := startProcesses(t, redistest.Start(t), 4)
	reports := together(t, processes, task{Op: "load", Key: "k", Value: "v", Callers: 250, Delay: 200 * time.Millisecond})
	assert.Equal(t, 1, sum(reports, countLoads))
	assert.LessOrEqual(t, sum(reports, countCommands), 4*2+1)
	for _, r := range reports {
		assert.Equal(t, []string{"v"}, r.Values)
		assert.Empty(t, r.Errors)
	}
}

func TestManyCallersInManyProcessesShareAFailure(t *testing.T) {
	t.Parallel()
	processes := startProcesses(t, redistest.Start(t), 4)
	reports := together(t, processes, task{Op: "load", Key: "k", Callers: 250, Delay: 200 * time.Millisecond, Fail: true})
	assert.Equal(t, 1, sum(reports, countLoads))
	assert.LessOrEqual(t, sum(reports, countCommands), 4*2+1)
	for _, r := range reports {
		assert.Empty(t, r.Values)
		assert.Equal(t, []string{map[int]string{1: errDatabase.Error(), 0: `store: load failed: load "k" of "things"`}[r.Loads]}, r.Errors)
	}
}

func TestHotKeysAfterARestartAreLoadedOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	processes := startProcesses(t, server, 4)
	hot := task{Op: "load", Key: "k", Value: "v", Keys: 1000, Delay: 20 * time.Millisecond}
	assert.Equal(t, 1000, sum(together(t, processes, hot), countLoads))
	assert.Equal(t, 0, sum(together(t, processes, hot), countLoads))
	server.Restart()
	reports := together(t, processes, hot)
	assert.Equal(t, 1000, sum(reports, countLoads))
	for _, r := range reports {
		assert.Equal(t, []string{"v"}, r.Values)
		assert.Empty(t, r.Errors)
	}
}

func TestKilledLoaderDelaysOthersByItsLease(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t)
	p := startProcess(t, server)
	p.send(t, task{Op: "hold", Key: "k", Value: "old"})
	p.receive(t)
	loader, count := loads("new")
	waiting := async(t.Context(), c, "k", loader)
	requireWaiting(t, c)
	require.NoError(t, p.cmd.Process.Kill())
	began := time.Now()
	out := receive(t, waiting, "the value")
	assert.Less(t, time.Since(began), 2*lease.TTL, "others wait for the end of the lease, and not for their own time-outs")
	require.NoError(t, out.err)
	assert.Equal(t, "new", out.item.Value)
	assert.EqualValues(t, 1, count.Load())
}

func TestStoppedLoaderStoresNothingWhenItGoesOn(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t)
	p := startProcess(t, server)
	p.send(t, task{Op: "hold", Key: "k", Value: "old"})
	p.receive(t)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	loader, _ := loads("new")
	item, err := c.GetOrLoadItem(t.Context(), "k", loader)
	require.NoError(t, err)
	require.Equal(t, store.SourceLoaded, item.Source)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
	p.send(t, task{})
	r := p.receive(t)
	assert.Equal(t, []string{"old", "0"}, r.Values, "its caller gets what it has loaded, which is not stored")
	v, err := c.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, "new", v)
}

func TestNoStaleFillInRandomInterleavings(t *testing.T) {
	t.Parallel()
	server, c := setupCache[string](t)
	processes := startProcesses(t, server, 2)
	client := server.Client(t)
	for round := range 400 {
		key := "k" + strconv.Itoa(round)
		processes[round%2].send(t, task{Op: "race", Key: key, Callers: 1})
		processes[1-round%2].send(t, task{Op: "race", Key: key})
		for _, p := range processes {
			require.Empty(t, p.receive(t).Errors, round)
		}
		v, err := c.Get(t.Context(), key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, client.Get(t.Context(), "db:"+key).Val(), v, "stored after round %d", round)
	}
}
