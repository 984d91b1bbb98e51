package cache_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/internal/redistest"
)

// sessions is all that a named instance provides.
type sessions struct {
	fx.In
	Config           *cache.Config                  `name:"sessions"`
	Redis            *cache.Redis                   `name:"sessions"`
	Universal        redis.UniversalClient          `name:"sessions"`
	LockManager      cache.LockManager              `name:"sessions"`
	Locker           cache.Locker                   `name:"sessions"`
	RedisLockManager *cache.RedisLockManager        `name:"sessions"`
	Notification     cache.NotificationSystem       `name:"sessions"`
	Concrete         *cache.RedisNotificationSystem `name:"sessions"`
	Store            *cache.Store                   `name:"sessions"`
}

func TestNamedIsASecondServer(t *testing.T) {
	t.Parallel()
	one, two := redistest.Start(t), redistest.Start(t)
	var main everything
	var second sessions
	var checks struct {
		fx.In
		Checks []cache.Check `group:"health"`
	}
	reg := prometheus.NewPedanticRegistry()
	startApp(t, one,
		cache.Named("sessions", cache.WithConfig(configOf(two))),
		fx.Supply(fx.Annotate(reg, fx.As(new(prometheus.Registerer)))), cache.RegisterMetrics,
		fx.Invoke(func(m everything, s sessions) { main, second = m, s }), fx.Populate(&checks))
	ctx := timeout(t)

	require.NoError(t, second.Redis.Set(ctx, "where", "two", 0).Err())
	require.ErrorIs(t, main.Redis.Get(ctx, "where").Err(), redis.Nil)
	assert.Equal(t, "two", two.Client(t).Get(ctx, "where").Val())
	assert.Same(t, second.RedisLockManager, second.LockManager)
	assert.Same(t, second.RedisLockManager, second.Locker)
	assert.NotSame(t, main.RedisLockManager, second.RedisLockManager)

	var names []string
	for _, c := range checks.Checks {
		names = append(names, c.Name)
	}
	assert.Subset(t, names, []string{"redis", "sessions.redis", "store", "sessions.store"})
	report := main.Health.Run(ctx, health.Readiness)
	assert.Len(t, report.Checks, 8)

	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	assert.Empty(t, problems)
	families, err := reg.Gather()
	require.NoError(t, err)
	instances := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "cache" {
					instances[l.GetValue()] = true
				}
			}
		}
	}
	assert.Equal(t, map[string]bool{"default": true, "sessions": true}, instances)
}

func TestNamedAloneReadsItsOwnEnvironment(t *testing.T) { // sets the environment, so not in parallel
	server := redistest.Start(t)
	t.Setenv("SESSIONS_REDIS_URL", server.URL())
	var second sessions
	uberfxtest.New(t, cache.Named("sessions"), fx.Invoke(func(s sessions) { second = s })).
		RequireStart().RequireStop()
	assert.Equal(t, server.URL(), second.Config.URL)
}

// Which of several servers a start failed at, and which setting leads there, must be in
// its error.
func TestNamedFailuresNameTheInstance(t *testing.T) { // sets the environment, so not in parallel
	start := func(opts ...fx.Option) error {
		ctx, cancel := context.WithTimeout(t.Context(), startBudget)
		defer cancel()
		app := fx.New(fx.NopLogger, fx.Options(opts...))
		if app.Err() != nil {
			return app.Err()
		}
		return app.Start(ctx)
	}
	down := redistest.Start(t)
	down.Kill()
	t.Setenv("SESSIONS_REDIS_URL", down.URL())
	err := start(cache.Named("sessions"))
	require.ErrorContains(t, err, `instance "sessions", configured by SESSIONS_REDIS_URL`)
	require.ErrorContains(t, err, down.Addr())
	err = start(cache.Named("sessions", cache.WithConfig(configOf(down))))
	require.ErrorContains(t, err, `instance "sessions", configured by WithConfig`)
	err = start(cache.Named("sessions"),
		fx.Replace(fx.Annotate(configOf(down), fx.ResultTags(`name:"sessions"`))))
	require.ErrorContains(t, err, `instance "sessions", configured by fx.Replace or fx.Decorate`)
	err = start(cache.Module, cache.WithEnvPrefix("SESSIONS_"))
	require.ErrorContains(t, err, `instance "default", configured by SESSIONS_REDIS_URL`)

	up := redistest.Start(t)
	broken := configOf(up)
	broken.LockNodes = []string{down.Addr()}
	err = start(cache.Named("sessions", cache.WithConfig(broken)))
	require.ErrorContains(t, err, `instance "sessions", configured by LockNodes of WithConfig`)
	err = start(cache.Named("sessions"),
		fx.Replace(fx.Annotate(broken, fx.ResultTags(`name:"sessions"`))))
	require.ErrorContains(t, err, `instance "sessions", configured by LockNodes of fx.Replace or fx.Decorate`)
	t.Setenv("SESSIONS_REDIS_LOCK_NODES", down.Addr())
	err = start(cache.Named("sessions"))
	require.ErrorContains(t, err, `instance "sessions", configured by SESSIONS_REDIS_URL`, "the server itself comes first")
	t.Setenv("SESSIONS_REDIS_URL", up.URL())
	err = start(cache.Named("sessions"))
	require.ErrorContains(t, err, `instance "sessions", configured by SESSIONS_REDIS_LOCK_NODES: `)
	require.ErrorContains(t, err, "at lock node "+down.Addr())
	t.Setenv("SESSIONS_REDIS_LOCK_NODES", "")

	t.Setenv("SESSIONS_REDIS_URL", "")
	t.Setenv("SESSIONS_REDIS_PORT", "99999")
	err = start(cache.Named("sessions"))
	require.ErrorContains(t, err, `instance "sessions": config: invalid: Port (SESSIONS_REDIS_PORT)`)
	assert.NotContains(t, err.Error(), stub)

	// What a replacement makes void is not judged.
	app := fx.New(fx.NopLogger, cache.Named("sessions"),
		fx.Replace(fx.Annotate(configOf(down), fx.ResultTags(`name:"sessions"`))))
	require.NoError(t, app.Err())
}

func TestReplacingTheUnnamedLeavesTheNamedAlone(t *testing.T) {
	t.Parallel()
	one, two := redistest.Start(t), redistest.Start(t)
	var second sessions
	nowhere := &cache.Config{Host: "127.0.0.1", Port: "1"}
	app := uberfxtest.New(t, cache.Module, cache.Named("sessions", cache.WithConfig(nowhere)),
		cache.ReplaceConfig(configOf(one)),
		fx.Replace(fx.Annotate(configOf(two), fx.ResultTags(`name:"sessions"`))),
		fx.Invoke(func(s sessions) { second = s }))
	app.RequireStart()
	defer app.RequireStop()
	require.NoError(t, second.Redis.Set(timeout(t), "k", "v", 0).Err())
	assert.Equal(t, "v", two.Client(t).Get(timeout(t), "k").Val())
}

func TestNamedRefusesWhatItCannotUse(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]fx.Option{
		"empty name":     cache.Named(""),
		"space in name":  cache.Named("my sessions"),
		"digit first":    cache.Named("1st"),
		"foreign option": cache.Named("sessions", fx.Supply(1)),
		"reserved name":  cache.Named("default"),
		"nil config":     cache.Named("sessions", cache.WithConfig(nil)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorIs(t, fx.New(fx.NopLogger, opt).Err(), cache.ErrInvalidOption)
		})
	}
}

// What is wrong with an option is said where it is passed to Named, too.
func TestNamedSaysWhatItsOptionLacks(t *testing.T) {
	t.Parallel()
	for says, opt := range map[string]fx.Option{
		"WithConfig: the config is nil":      cache.WithConfig(nil),
		"WithEnvPrefix: the prefix is empty": cache.WithEnvPrefix(""),
	} {
		for _, err := range []error{fx.New(fx.NopLogger, cache.Named("x", opt)).Err(), fx.New(fx.NopLogger, cache.Module, opt).Err()} {
			require.ErrorIs(t, err, cache.ErrInvalidOption)
			require.ErrorContains(t, err, says)
		}
		require.ErrorContains(t, fx.New(fx.NopLogger, cache.Named("x", opt)).Err(), `instance "x"`)
	}
}

// Different names can be the same in capitals, in which environment variables are written.
func TestNamedInstancesDoNotShareVariables(t *testing.T) {
	t.Parallel()
	somewhere := &cache.Config{Host: "redis.internal"}
	for _, names := range [][2]string{{"a-b", "A_B"}, {"a_b", "a-b"}, {"sessions", "Sessions"}} {
		for _, n := range [][2]string{names, {names[1], names[0]}} {
			err := fx.New(fx.NopLogger, cache.Named(n[0]), cache.Named(n[1])).Err()
			require.ErrorIs(t, err, cache.ErrInvalidOption)
			require.ErrorContains(t, err, fmt.Sprintf("Named(%q) and Named(%q) both read ", min(n[0], n[1]), max(n[0], n[1])))
		}
		for _, opt := range []fx.Option{cache.WithConfig(somewhere), cache.WithEnvPrefix("OTHER_")} {
			require.NoError(t, fx.New(fx.NopLogger, cache.Named(names[0]), cache.Named(names[1], opt)).Err())
		}
	}
	require.NoError(t, fx.New(fx.NopLogger, cache.Named("a-b"), cache.Named("ab")).Err())
}

// What was replaced reads no variables.
func TestReplacedNamedInstancesDoNotShareVariables(t *testing.T) {
	t.Parallel()
	replaced := fx.Decorate(fx.Annotate(func() *cache.Config { return &cache.Config{Host: "redis.internal"} }, fx.ResultTags(`name:"a_b"`)))
	for _, names := range [][2]string{{"a-b", "a_b"}, {"a_b", "a-b"}} {
		two := fx.Options(cache.Named(names[0]), cache.Named(names[1]))
		require.NoError(t, fx.New(fx.NopLogger, two, replaced).Err())
		require.ErrorIs(t, fx.New(fx.NopLogger, two, replaced, cache.Named("A_B")).Err(), cache.ErrInvalidOption)
	}
}

// The variable that advice names is that of the instance.
func TestAdviceOfInstances(t *testing.T) { // sets the environment, so not in parallel
	locked := redistest.Start(t, redistest.WithPassword("pw"))
	t.Setenv("SESSIONS_REDIS_URL", "redis://"+locked.Addr())
	for name, opt := range map[string]fx.Option{
		"Named":         cache.Named("sessions"),
		"WithEnvPrefix": fx.Options(cache.Module, cache.WithEnvPrefix("SESSIONS_")),
		"both":          cache.Named("other", cache.WithEnvPrefix("SESSIONS_")),
	} {
		require.ErrorContains(t, fx.New(fx.NopLogger, opt).Start(timeout(t)), "set Password (SESSIONS_REDIS_PASSWORD)", name)
	}
	_, err := cache.SetupCache(timeout(t), nil, cache.SetupWithEnvPrefix("SESSIONS_"))
	require.ErrorContains(t, err, "set Password (SESSIONS_REDIS_PASSWORD)")
}
