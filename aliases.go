package cache

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
)

// The names of the packages below, so that one import serves most users.

// Configuration. See package config.
type (
	// Config holds all settings.
	Config = config.Config
	// ConfigError lists everything that is wrong with a Config.
	ConfigError = config.Error
)

// ErrInvalidConfig matches every ConfigError.
var ErrInvalidConfig = config.ErrInvalid

// Client. See package client.
type (
	// Redis is a client that knows its health.
	Redis = client.Redis
	// RedisInterface is what a *Redis and every go-redis client have in common.
	RedisInterface = redis.UniversalClient
	// ClientError says what is wrong with which server.
	ClientError = client.Error
)

// Errors of the client. HealthCheck and NewRedis return them inside a
// *ClientError, which names the address.
var (
	ErrClientNotStarted = client.ErrNotStarted
	ErrClientClosed     = client.ErrClosed
	ErrUnreachable      = client.ErrUnreachable
	ErrTLS              = client.ErrTLS
	ErrAuth             = client.ErrAuth
	ErrLoading          = client.ErrLoading
	ErrReadOnly         = client.ErrReadOnly
	ErrOutOfMemory      = client.ErrOutOfMemory
	ErrDisk             = client.ErrDisk
	ErrClusterDown      = client.ErrClusterDown
	ErrRefused          = client.ErrRefused
	// ErrClientArgument means that a call had no context.
	ErrClientArgument = client.ErrInvalidArgument
)

// NewRedis connects to Redis and pings it. A nil cfg means defaults and
// environment. On failure nothing stays open, and the error names the address.
func NewRedis(ctx context.Context, cfg *Config) (*Redis, error) { return client.NewRedis(ctx, cfg) }

// Locks. See package lock.
type (
	Lock             = lock.Lock
	LockManager      = lock.LockManager
	RedisLock        = lock.RedisLock
	RedisLockManager = lock.RedisLockManager
	LockMetrics      = lock.LockMetrics
)

// Errors of locks.
var (
	ErrLockNotAcquired = lock.ErrLockNotAcquired
	ErrLockNotHeld     = lock.ErrLockNotHeld
	ErrLockExpired     = lock.ErrLockExpired
	ErrLockStolen      = lock.ErrLockStolen
	ErrManagerClosed   = lock.ErrManagerClosed
	// ErrLockRedis means that Redis failed, and says nothing about the lock.
	ErrLockRedis = lock.ErrRedis
	// ErrLockArgument means that an argument was unusable.
	ErrLockArgument = lock.ErrInvalidArgument
)

// Notifications. See package notification.
type (
	NotificationSystem      = notification.NotificationSystem
	RedisNotificationSystem = notification.RedisNotificationSystem
	NotificationMetrics     = notification.NotificationMetrics
	Subscriber              = notification.Subscriber
	Subscription            = notification.Subscription
	Message                 = notification.Message
	Gap                     = notification.Gap
	WorkflowEvent           = notification.WorkflowEvent
	TaskEvent               = notification.TaskEvent
)

// Errors of notifications.
var (
	ErrNotificationsClosed  = notification.ErrClosed
	ErrNotificationArgument = notification.ErrInvalidArgument
	ErrSlowSubscriber       = notification.ErrSlowSubscriber
	ErrNotLive              = notification.ErrNotLive
	ErrNoHistory            = notification.ErrNoHistory
)

// Decode reads the payload of a message as JSON. A payload that is none gives an
// error that names the channel.
func Decode[T any](m *Message) (T, error) { return notification.Decode[T](m) }

// Health. See package health.
type (
	// Health serves the reports of all checks in the group HealthGroup.
	Health = health.Health
	// Check is one question of a health report.
	Check = health.Check
)
