package cache_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache"
	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/internal/redistest"
)

// splitLocks is what a Locker that is not the LockManager is refused with.
const splitLocks = `the cache.Locker of instance "default" is not its cache.LockManager`

// stub is what Fx calls functions that were made by reflection.
const stub = "makeFuncStub"

func nothing[T any](T) T {
	var none T
	return none
}

// TestMisuse puts applications together in ways that cannot work. The error says what
// to write instead, in its own words or, where only Fx speaks, in the names of our
// constructors, which must not be those of package reflect.
func TestMisuse(t *testing.T) {
	t.Parallel()
	config, other := &cache.Config{Host: "redis.internal"}, &cache.Config{Host: "other.internal"}
	named := func(v any) any { return fx.Annotate(v, fx.ResultTags(`name:"sessions"`)) }
	sibling := func(opt fx.Option) fx.Option { return fx.Module("test", opt) }
	sessions := cache.Named("sessions", cache.WithConfig(config))
	var noLocks cache.LockManager
	for name, test := range map[string]struct {
		opts []fx.Option
		says string
		fxs  bool // Fx names a function of its own, for something that is not ours
	}{
		"the module twice":       {[]fx.Option{cache.Module}, "include cache.Module once", false},
		"a named one twice":      {[]fx.Option{sessions, sessions}, `include cache.Named(\"sessions\") once`, false},
		"config supplied":        {[]fx.Option{fx.Supply(config)}, "useWithConfigToSetTheConfig", true},
		"config provided":        {[]fx.Option{fx.Provide(func() *cache.Config { return config })}, "useWithConfigToSetTheConfig", false},
		"named config supplied":  {[]fx.Option{sessions, fx.Supply(named(config))}, "useWithConfigInNamedToSetTheConfig", true},
		"client provided":        {[]fx.Option{fx.Provide(func() *cache.Redis { return nil })}, "useFxReplaceForRedis", false},
		"locks provided":         {[]fx.Option{fx.Provide(func() cache.LockManager { return nil })}, "useReplaceLockManager", false},
		"a Locker provided":      {[]fx.Option{fx.Provide(func() cache.Locker { return nil })}, "useReplaceLockManagerForLocker", false},
		"notifications provided": {[]fx.Option{fx.Provide(func() cache.NotificationSystem { return nil })}, "useReplaceNotificationSystem", false},
		"a store provided":       {[]fx.Option{fx.Provide(func() *cache.Store { return nil })}, "useFxReplaceForStore", false},
		"nil store":              {[]fx.Option{fx.Decorate(nothing[*cache.Store])}, `*store.Store of instance "default" is nil`, false},
		"nil named store": {[]fx.Option{sessions, fx.Decorate(fx.Annotate(nothing[*cache.Store],
			fx.ParamTags(`name:"sessions"`), fx.ResultTags(`name:"sessions"`)))}, `*store.Store of instance "sessions" is nil`, false},
		"zero store": {[]fx.Option{fx.Replace(&cache.Store{}), cache.NewState[int]("s")}, "is nil or zero", false},
		"two states of one type": {[]fx.Option{cache.NewState[int]("a"), cache.NewState[int]("b")},
			"give the second a type of its own, or a name tag", false},
		"two caches of one type": {[]fx.Option{cache.NewCache[int]("a"), cache.NewCache[int]("b")},
			"this is about *store.Cache[int]", false},
		"a cache and a state of one name": {[]fx.Option{cache.NewCache[int]("a"), cache.NewState[int]("a")},
			`NewState("a") of instance "default"`, false},
		"cache without a name": {[]fx.Option{cache.NewCache[int]("")}, `NewCache("") of instance "default"`, false},
		"bad option of a cache": {[]fx.Option{cache.NewCache[int]("numbers", cache.WithTTL(-1))},
			`NewCache("numbers") of instance "default": cache: invalid argument: WithTTL`, false},
		"misplaced option of a state": {[]fx.Option{cache.NewState[int]("numbers", cache.WithFence(1))},
			"WithFence is no option of NewState", false},
		"bad option of a named state": {[]fx.Option{cache.Named("a", cache.WithConfig(config), cache.NewState[int]("x", cache.WithTTL(-1)))},
			`NewState("x") of instance "a"`, false},
		"go-redis provided":                      {[]fx.Option{fx.Provide(func() redis.UniversalClient { return nil })}, "useFxReplaceForUniversalClient", false},
		"config by value":                        {[]fx.Option{fx.Supply(*config)}, "write cache.WithConfig(&config)", false},
		"zero config by value beside WithConfig": {[]fx.Option{cache.WithConfig(other), fx.Supply(cache.Config{})}, "write cache.WithConfig(&config)", false},
		"config replaced by value":               {[]fx.Option{fx.Replace(*config)}, "write cache.WithConfig(&config)", false},
		"config by value in a sibling module":    {[]fx.Option{sibling(fx.Supply(*config))}, "write cache.WithConfig(&config)", false},
		"config by value beside WithConfig":      {[]fx.Option{cache.WithConfig(other), fx.Supply(*config)}, "write cache.WithConfig(&config)", false},
		"the same, replaced":                     {[]fx.Option{cache.WithConfig(other), fx.Replace(*config)}, "write cache.WithConfig(&config)", false},
		"config by value beside a replaced":      {[]fx.Option{cache.ReplaceConfig(other), fx.Replace(*config)}, "cache.ReplaceConfig(&config)", false},
		"config by value beside WithEnvPrefix": {[]fx.Option{cache.WithEnvPrefix("NONE_"), fx.Provide(func() cache.Config { return *config })},
			"write cache.WithConfig(&config)", false},
		"named config by value": {[]fx.Option{cache.Named("sessions"), fx.Supply(named(*config))}, `on instance "sessions": write`, false},
		"zero named config by value": {[]fx.Option{cache.Named("sessions", cache.WithConfig(other)), fx.Supply(named(cache.Config{}))},
			`on instance "sessions": write`, false},
		"the same, beside WithConfig": {[]fx.Option{cache.Named("sessions", cache.WithConfig(other)), fx.Replace(named(*config))},
			`on instance "sessions": write`, false},
		"nil config":          {[]fx.Option{fx.Decorate(nothing[*cache.Config])}, `*config.Config of instance "default" is nil`, false},
		"nil config replaced": {[]fx.Option{fx.Replace((*cache.Config)(nil))}, `*config.Config of instance "default" is nil`, false},
		"nil client":          {[]fx.Option{fx.Decorate(nothing[*cache.Redis])}, `*client.Redis of instance "default" is nil`, false},
		"nil go-redis":        {[]fx.Option{fx.Decorate(nothing[redis.UniversalClient])}, "redis.UniversalClient of instance", false},
		"nil locks":           {[]fx.Option{fx.Decorate(nothing[cache.LockManager])}, "cache.ReplaceLockManager sets a fake", false},
		"nil lock manager":    {[]fx.Option{fx.Decorate(nothing[*cache.RedisLockManager])}, "*lock.RedisLockManager of instance", false},
		"typed nil locks": {[]fx.Option{fx.Decorate(func() cache.LockManager { return (*cache.RedisLockManager)(nil) })},
			"lock.LockManager of instance", false},
		"nil Locker": {[]fx.Option{fx.Decorate(nothing[cache.Locker])}, `lock.Locker of instance "default" is nil`, false},
		"nil Locker of a fake": {[]fx.Option{cache.ReplaceLockManager(cachetest.NewLockManager()), fx.Decorate(nothing[cache.Locker])},
			"cache.ReplaceLockManager sets a fake", false},
		"nil named Locker": {[]fx.Option{sessions, fx.Decorate(fx.Annotate(nothing[cache.Locker],
			fx.ParamTags(`name:"sessions"`), fx.ResultTags(`name:"sessions"`)))}, `lock.Locker of instance "sessions" is nil`, false},
		"a Locker replaced beside the LockManager": {[]fx.Option{fx.Replace(fx.Annotate(cachetest.NewLockManager(), fx.As(new(cache.Locker))))},
			splitLocks, true},
		"a Locker decorated beside the LockManager": {[]fx.Option{fx.Decorate(func(l cache.Locker) cache.Locker { return wrappedLocker{l} })},
			splitLocks, false},
		"a Locker decorated beside a LockManager that is none": {[]fx.Option{fx.Decorate(func(m cache.LockManager) cache.LockManager {
			return wrappedLocks{m}
		}, func(l cache.Locker) cache.Locker { return wrappedLocker{l} })}, splitLocks, false},
		"a Locker decorated beside a fake": {[]fx.Option{cache.ReplaceLockManager(cachetest.NewLockManager()),
			fx.Decorate(func() cache.Locker { return cachetest.NewLockManager() })}, splitLocks, false},
		"a named Locker decorated beside the LockManager": {[]fx.Option{sessions, fx.Decorate(fx.Annotate(
			func(l cache.Locker) cache.Locker { return wrappedLocker{l} },
			fx.ParamTags(`name:"sessions"`), fx.ResultTags(`name:"sessions"`)))}, `cache.Locker of instance "sessions" is not its`, false},
		"a Locker of a fake that is none": {[]fx.Option{cache.ReplaceLockManager(fakeLocks{}), fx.Invoke(func(cache.Locker) {})},
			`the LockManager of instance "default", a cache_test.fakeLocks, is no cache.Locker`, false},
		"nil notifications":       {[]fx.Option{fx.Decorate(nothing[cache.NotificationSystem])}, "cache.ReplaceNotificationSystem sets a fake", false},
		"nil notification system": {[]fx.Option{fx.Decorate(nothing[*cache.RedisNotificationSystem])}, "*notification.RedisNotificationSystem of", false},
		"nil health":              {[]fx.Option{fx.Decorate(nothing[*cache.Health])}, `*health.Health of instance "default" is nil`, false},
		"nil named config": {[]fx.Option{sessions, fx.Decorate(fx.Annotate(nothing[*cache.Config],
			fx.ParamTags(`name:"sessions"`), fx.ResultTags(`name:"sessions"`)))}, `*config.Config of instance "sessions" is nil`, false},
		"ReplaceConfig in a sibling":      {[]fx.Option{sibling(cache.ReplaceConfig(config))}, "ReplaceConfig has no effect where it stands", false},
		"ReplaceLockManager in a sibling": {[]fx.Option{sibling(cache.ReplaceLockManager(fakeLocks{}))}, "pass it to fx.New itself", false},
		"ReplaceNotificationSystem in a sibling": {[]fx.Option{sibling(cache.ReplaceNotificationSystem(&fakeNotifications{}))},
			"ReplaceNotificationSystem has no effect", false},
		"ReplaceConfig twice":      {[]fx.Option{cache.ReplaceConfig(config), cache.ReplaceConfig(config)}, "use cache.ReplaceConfig once", false},
		"ReplaceLockManager twice": {[]fx.Option{cache.ReplaceLockManager(fakeLocks{}), cache.ReplaceLockManager(fakeLocks{})}, "use cache.ReplaceLockManager once", false},
		"ReplaceLockManager(nil)":  {[]fx.Option{cache.ReplaceLockManager(noLocks)}, "ReplaceLockManager: the value is nil", false},
		"bad config":               {[]fx.Option{cache.WithConfig(&cache.Config{Port: "x"})}, `Port (REDIS_PORT) is "x"`, false},
		"bad named config":         {[]fx.Option{cache.Named("a", cache.WithConfig(&cache.Config{Port: "x"}))}, `instance "a": config: invalid: Port`, false},
		"no registerer":            {[]fx.Option{cache.RegisterMetrics}, "registerMetrics", false},
		"nil registerer": {[]fx.Option{cache.RegisterMetrics, fx.Provide(func() prometheus.Registerer { return nil })},
			"RegisterMetrics: the prometheus.Registerer is nil", false},
		"nil collector": {[]fx.Option{cache.RegisterMetrics, fx.Supply(fx.Annotate(prometheus.NewRegistry(), fx.As(new(prometheus.Registerer)))),
			fx.Provide(fx.Annotated{Group: "metrics", Target: func() prometheus.Collector { return nil }})}, `Collector in the group "metrics" is nil`, false},
		"zero go-redis": {[]fx.Option{fx.Decorate(func(redis.UniversalClient) redis.UniversalClient { return &redis.Client{} })},
			"client is nil, or a client that no constructor made", false},
		"zero client": {[]fx.Option{fx.Decorate(func(*cache.Redis) *cache.Redis { return &cache.Redis{} })},
			"client is nil, or a client that no constructor made", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			logger := fx.WithLogger(func() fxevent.Logger { return &fxevent.ConsoleLogger{W: &log} })
			app := fx.New(append([]fx.Option{cache.Module, logger}, test.opts...)...)
			require.ErrorContains(t, app.Err(), test.says)
			if !test.fxs {
				assert.NotContains(t, app.Err().Error(), stub)
				assert.NotContains(t, log.String(), stub)
			}
		})
	}
}

// Beside named instances alone, what is about the unnamed one would be ignored.
func TestOptionsWithoutTheModule(t *testing.T) {
	t.Parallel()
	config := &cache.Config{Host: "redis.internal"}
	for call, opt := range map[string]fx.Option{
		"WithConfig": cache.WithConfig(config), "WithEnvPrefix": cache.WithEnvPrefix("A_"),
		"ReplaceConfig": cache.ReplaceConfig(config), "ReplaceLockManager": cache.ReplaceLockManager(fakeLocks{}),
		"ReplaceNotificationSystem": cache.ReplaceNotificationSystem(&fakeNotifications{}),
	} {
		sessions := cache.Named("sessions", cache.WithConfig(config))
		for _, opts := range [][]fx.Option{{sessions, opt}, {opt, sessions}, {opt}, {sessions, fx.Module("test", opt)}} {
			err := fx.New(append(opts, fx.NopLogger)...).Err()
			require.ErrorIs(t, err, cache.ErrInvalidOption)
			require.ErrorContains(t, err, call+" has no effect without cache.Module")
		}
		require.NoError(t, fx.New(fx.NopLogger, sessions, opt, fx.Module("infrastructure", cache.Module)).Err(), call)
	}
}

// The metrics of named instances are enough.
func TestRegisterMetricsWithoutInstances(t *testing.T) {
	t.Parallel()
	opts := fx.Options(fx.NopLogger, cache.RegisterMetrics, fx.Supply(fx.Annotate(prometheus.NewRegistry(), fx.As(new(prometheus.Registerer)))))
	err := fx.New(opts).Err()
	require.ErrorIs(t, err, cache.ErrInvalidOption)
	require.ErrorContains(t, err, "RegisterMetrics has no effect without cache.Module")
	config := cache.WithConfig(&cache.Config{Host: "redis.internal"})
	require.NoError(t, fx.New(opts, cache.Named("sessions", config)).Err())
	require.NoError(t, fx.New(opts, cache.Module, config).Err())
}

// TestUseBeforeTheStart calls Redis where an application is built. What returns an error
// returns one that says where to go; a subscription begins with the start and the log
// says so.
func TestUseBeforeTheStart(t *testing.T) {
	t.Parallel()
	const says = "use it in a start hook (fx.StartHook) or later, not in a constructor or an fx.Invoke"
	server := redistest.Start(t)
	core, logs := observer.New(zap.WarnLevel)
	var sub cache.Subscriber
	var events cache.NotificationSystem
	startApp(t, server, fx.Provide(func() *zap.Logger { return zap.New(core) }),
		fx.Invoke(func(p everything) {
			ctx := timeout(t)
			require.ErrorContains(t, p.Redis.Ping(ctx).Err(), says)
			require.ErrorContains(t, p.Redis.HealthCheck(ctx), says)
			_, err := p.LockManager.Acquire(ctx, "early", time.Minute)
			require.ErrorContains(t, err, says)
			require.ErrorIs(t, err, cache.ErrClientNotStarted)
			err = p.Notification.PublishTaskEvent(ctx, &cache.TaskEvent{ID: "t", WorkflowID: "w"})
			require.ErrorContains(t, err, says)
			events, sub = p.Notification, p.Notification.Subscribe(t.Context(), "workflow:*")
		}))

	waits := logs.FilterMessageSnippet("waits for the client to start").All()
	require.Len(t, waits, 1, "one warning and no more")
	assert.Contains(t, waits[0].ContextMap()["error"], says)
	eventually(t, "the subscription begins after the start", func() bool {
		require.NoError(t, events.PublishWorkflowEvent(timeout(t), &cache.WorkflowEvent{ID: "w", Status: "late"}))
		return len(sub.Messages()) > 0
	})
}
