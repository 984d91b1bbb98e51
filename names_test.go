package cache_test

import (
	"context"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/store"
)

// What users compile against, with its exact types. A line that does not compile
// any more is a breaking change.
var (
	_ fx.Option                                                                        = cache.Module
	_ fx.Option                                                                        = cache.RegisterMetrics
	_ fx.Option                                                                        = cache.DrainOnStop
	_ func(*slog.Logger) fx.Option                                                     = cache.WithSlog
	_ func(*slog.Logger) cache.SetupOption                                             = cache.SetupWithSlog
	_ func(*cache.Cache, context.Context) error                                        = (*cache.Cache).Drain
	_ func(*cache.Config) fx.Option                                                    = cache.WithConfig
	_ func(string) fx.Option                                                           = cache.WithEnvPrefix
	_ func(*cache.Config) fx.Option                                                    = cache.ReplaceConfig
	_ func(cache.LockManager) fx.Option                                                = cache.ReplaceLockManager
	_ func(cache.NotificationSystem) fx.Option                                         = cache.ReplaceNotificationSystem
	_ func(string, ...fx.Option) fx.Option                                             = cache.Named
	_ func(context.Context, *cache.Config, ...cache.SetupOption) (*cache.Cache, error) = cache.SetupCache
	_ func(context.Context, *cache.Config) (*cache.Redis, error)                       = cache.NewRedis
	_ func(*cache.Message) (cache.TaskEvent, error)                                    = cache.Decode[cache.TaskEvent]
	_ func(*cache.RedisLockManager) *cache.LockMetrics                                 = (*cache.RedisLockManager).GetMetrics
	_ func(*cache.RedisNotificationSystem) *cache.NotificationMetrics                  = (*cache.RedisNotificationSystem).GetMetrics

	_ func(redis.UniversalClient, ...lock.Option) (*cache.RedisLockManager, error)                                                                = cache.NewRedisLockManager
	_ func(redis.UniversalClient, ...notification.Option) (*cache.RedisNotificationSystem, error)                                                 = cache.NewRedisNotificationSystem
	_ func(*cache.Redis) redis.UniversalClient                                                                                                    = (*cache.Redis).Client
	_ func(context.Context, cache.NotificationSystem, string, func(context.Context, cache.TaskEvent) error, ...cache.HandleOption) error          = cache.Handle[cache.TaskEvent]
	_ func(context.Context, cache.NotificationSystem, string, string, func(context.Context, cache.TaskEvent) error, ...cache.ConsumeOption) error = cache.Consume[cache.TaskEvent]
	_ func(error) error                                                                                                                           = cache.Permanent
	_ func(context.Context) int                                                                                                                   = cache.AttemptFrom
	_ func(context.Context) (*cache.Message, bool)                                                                                                = cache.MessageFrom
	_ func(string) string                                                                                                                         = cache.Literal
	_ func(string, any) cache.Outgoing                                                                                                            = cache.To
	_ func(*zap.Logger) cache.SetupOption                                                                                                         = cache.SetupWithLogger
	_ func(trace.TracerProvider) cache.SetupOption                                                                                                = cache.SetupWithTracerProvider
	_ func(prometheus.Registerer) cache.SetupOption                                                                                               = cache.SetupWithRegisterer
	_ func(string) cache.SetupOption                                                                                                              = cache.SetupWithEnvPrefix
	_ func(string) cache.SetupOption                                                                                                              = cache.SetupWithName
	_ func(*cache.Cache) *cache.Health                                                                                                            = (*cache.Cache).Health
	_ func(*cache.Cache) []prometheus.Collector                                                                                                   = (*cache.Cache).Collectors
	_ func() *cache.Config                                                                                                                        = cache.DefaultConfig
	_                                                                                                                                             = []cache.Policy{cache.PolicyReplay, cache.PolicyDropOldest, cache.PolicyDropNewest, cache.PolicyDisconnect}
	_                                                                                                                                             = []cache.CheckKind{cache.Readiness, cache.Liveness}
	_                                                                                                                                             = []string{cache.WorkflowEvents, cache.TaskEvents}
	_ cache.LockOption                                                                                                                            = lock.WithRenewal(false)
	_ cache.NotificationOption                                                                                                                    = notification.WithBufferSize(1)
	_ cache.HealthReport

	_ func(string, ...store.Option) fx.Option = cache.NewCache[int]
	_ func(string, ...store.Option) fx.Option = cache.NewState[int]
	_ func(time.Duration) cache.StoreOption   = cache.WithTTL
	_ func(cache.Version) cache.StoreOption   = cache.IfVersion
	_ func(int64) cache.StoreOption           = cache.WithFence
	_                                         = []cache.Source{cache.SourceNear, cache.SourceRedis, cache.SourceLoaded, cache.SourceStale}
	_ *store.Cache[int]                       = (*cache.StoreCache[int])(nil)
	_ *store.State[int]                       = (*cache.State[int])(nil)
	_ cache.Codec                             = store.JSON{}
	_ cache.Item[int]                         = cache.ConflictError[int]{}.Current
	_ error                                   = (*cache.ManyError)(nil)
	_ error                                   = (*cache.UnavailableError)(nil)

	_ cache.RedisInterface     = (*cache.Redis)(nil)
	_ redis.UniversalClient    = cache.RedisInterface(nil)
	_ cache.LockManager        = (*cache.RedisLockManager)(nil)
	_ cache.Locker             = (*cache.RedisLockManager)(nil)
	_ cache.LockManager        = cache.Locker(nil)
	_ cache.FencedLock         = (*cache.RedisLock)(nil)
	_ cache.Lock               = cache.FencedLock(nil)
	_ lock.Locker              = cache.Locker(nil)
	_ cache.NotificationSystem = (*cache.RedisNotificationSystem)(nil)
	_ error                    = (*cache.PublishError)(nil)
	_                          = cache.Gap{Reason: cache.GapOverflow}

	_ interface {
		cache.Lock
		Token() int64
		Lost() <-chan struct{}
		Context() context.Context
		Until() time.Time
	} = (*cache.RedisLock)(nil)
	_ interface {
		TryAcquire(ctx context.Context, resource string, ttl time.Duration) (cache.FencedLock, error)
		AcquireWait(ctx context.Context, resource string, ttl time.Duration) (cache.FencedLock, error)
		WithLock(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, cache.FencedLock) error) error
		Close(ctx context.Context) error
	} = (*cache.RedisLockManager)(nil)
	_ interface {
		Publish(ctx context.Context, channel string, v any) error
		SubscribeFrom(ctx context.Context, pattern, eventID string) *cache.Subscription
	} = (*cache.RedisNotificationSystem)(nil)
	_ interface {
		cache.Subscriber
		Err() error
		Gaps() <-chan cache.Gap
		Dropped() uint64
	} = (*cache.Subscription)(nil)
	_ interface {
		Close() error
		HealthCheck(ctx context.Context) error
	} = (*cache.Cache)(nil)

	_ = cache.Cache{Redis: (*cache.Redis)(nil), LockManager: cache.LockManager(nil), Locker: cache.Locker(nil), Notification: cache.NotificationSystem(nil), Store: (*cache.Store)(nil)}
	_ = cache.LockMetrics{
		AcquisitionsTotal: int64(0), AcquisitionsFailed: int64(0), ReleasesTotal: int64(0), ReleasesFailed: int64(0),
		RefreshesTotal: int64(0), RefreshesFailed: int64(0), AcquisitionTime: time.Duration(0),
	}
	_ = cache.NotificationMetrics{
		MessagesPublished: int64(0), MessagesReceived: int64(0), PublishErrors: int64(0), SubscribeErrors: int64(0),
		DroppedMessages: int64(0), ActiveChannels: int(0), AverageLatency: time.Duration(0),
	}
)

// TestInterfacesStaySmall keeps users' fakes at these methods.
func TestInterfacesStaySmall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of      reflect.Type
		methods []string
	}{
		{reflect.TypeFor[cache.LockManager](), []string{"Acquire"}},
		{reflect.TypeFor[cache.Lock](), []string{"IsHeld", "Refresh", "Release", "Resource"}},
		{reflect.TypeFor[cache.Locker](), []string{"Acquire", "AcquireWait", "TryAcquire", "WithLock"}},
		{reflect.TypeFor[cache.FencedLock](), []string{
			"Context", "IsHeld", "Lost", "Refresh", "Release", "Resource", "Token", "Until",
		}},
		{reflect.TypeFor[cache.NotificationSystem](), []string{"Close", "PublishTaskEvent", "PublishWorkflowEvent", "Subscribe"}},
		{reflect.TypeFor[cache.Subscriber](), []string{"Close", "Messages"}},
	} {
		var methods []string
		for m := range c.of.Methods() {
			methods = append(methods, m.Name)
		}
		assert.Equal(t, c.methods, methods, c.of)
	}
}

// TestWireNames covers the JSON that other programs read.
func TestWireNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of   reflect.Type
		tags map[string]string
	}{
		{reflect.TypeFor[cache.WorkflowEvent](), map[string]string{"ID": "id", "Status": "status", "Data": "data,omitempty"}},
		{reflect.TypeFor[cache.TaskEvent](), map[string]string{
			"ID": "id", "WorkflowID": "workflow_id", "Status": "status", "Data": "data,omitempty",
		}},
	} {
		for name, tag := range c.tags {
			field, ok := c.of.FieldByName(name)
			assert.True(t, ok, name)
			assert.Equal(t, tag, field.Tag.Get("json"), name)
		}
	}
}
