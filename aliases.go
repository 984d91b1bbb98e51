package cache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
)

// The names of the packages below, so that one import serves most users.

// ArgumentError says which argument of a call, or which option, cannot be used, and
// why. Nothing was sent to Redis.
type ArgumentError = client.ArgumentError

// ErrInvalidArgument matches every ArgumentError.
var ErrInvalidArgument = client.ErrInvalidArgument

// Configuration. See package config.
type (
	// Config holds all settings.
	Config = config.Config
	// ConfigError lists everything that is wrong with a Config.
	ConfigError = config.Error
)

// DefaultConfig returns a Config with every default and nothing from the environment.
// Zeros set on it are meant as zeros.
func DefaultConfig() *Config { return config.Default() }

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

// Errors of the client. HealthCheck and NewRedis return those of the server inside
// a *ClientError, which names the address.
var (
	// ErrClientNotStarted means that the application has not started yet.
	ErrClientNotStarted = client.ErrNotStarted
	// ErrClientClosed means that the client was closed.
	ErrClientClosed = client.ErrClosed
	// ErrUnreachable means no connection, no answer in time, or a server too busy for one.
	ErrUnreachable = client.ErrUnreachable
	// ErrTLS means that the handshake failed.
	ErrTLS = client.ErrTLS
	// ErrAuth means that user or password are wrong or missing.
	ErrAuth = client.ErrAuth
	// ErrLoading means that the server has not got its data yet.
	ErrLoading = client.ErrLoading
	// ErrReadOnly means that the server is a replica, which refuses writes.
	ErrReadOnly = client.ErrReadOnly
	// ErrOutOfMemory means that the server is full, and refuses writes.
	ErrOutOfMemory = client.ErrOutOfMemory
	// ErrDisk means that the server cannot save to disk, and refuses writes.
	ErrDisk = client.ErrDisk
	// ErrNoReplicas means that too few replicas are in sync for min-replicas-to-write.
	ErrNoReplicas = client.ErrNoReplicas
	// ErrClusterDown means that the Cluster does not serve all slots.
	ErrClusterDown = client.ErrClusterDown
	// ErrRefused means an answer that trying again does not change.
	ErrRefused = client.ErrRefused
	// ErrUnsupported means a server of another kind than configured, or one that is too old.
	ErrUnsupported = client.ErrUnsupported
)

// NewRedis connects to Redis and checks that the server is fit for use. A nil cfg means
// defaults and environment. On failure nothing stays open, and the error names the address.
func NewRedis(ctx context.Context, cfg *Config) (*Redis, error) { return client.NewRedis(ctx, cfg) }

// Locks. See package lock.
type (
	// Lock is held until it is released or lost. See package lock.
	Lock = lock.Lock
	// LockManager acquires locks.
	LockManager = lock.LockManager
	// RedisLock is what every Lock of this module is: it also has a fencing token,
	// and reports its loss. See package lock.
	RedisLock = lock.RedisLock
	// RedisLockManager is the LockManager of this module, which can wait for a lock
	// as well. See package lock.
	RedisLockManager = lock.RedisLockManager
	// Locker is a LockManager whose locks have fencing tokens and tell of their loss, and
	// which can wait. RedisLockManager and the fake of package fxtest are Lockers.
	Locker = lock.Locker
	// FencedLock is a Lock with a fencing token that tells of its loss.
	FencedLock = lock.FencedLock
	// LockInfo is what Inspect of a RedisLockManager returns.
	LockInfo = lock.Info
	// LockMetrics is what GetMetrics of a RedisLockManager returns.
	LockMetrics = lock.LockMetrics
	// LockOption is an option of NewRedisLockManager: lock.WithNodes and so on.
	LockOption = lock.Option
)

// NewRedisLockManager makes a lock manager on any go-redis client, with the options of
// package lock. It is the caller's to close; the one of Module or SetupCache is made
// and closed by them.
func NewRedisLockManager(rdb redis.UniversalClient, opts ...LockOption) (*RedisLockManager, error) {
	return lock.NewRedisLockManager(rdb, opts...)
}

// Errors of locks.
var (
	// ErrLockNotAcquired means that somebody else holds the lock.
	ErrLockNotAcquired = lock.ErrLockNotAcquired
	// ErrLockNotHeld means that the lock was released, or lost, before.
	ErrLockNotHeld = lock.ErrLockNotHeld
	// ErrLockExpired means that the lock was not renewed in time, or that its key was deleted.
	ErrLockExpired = lock.ErrLockExpired
	// ErrLockStolen means that the lock's key has come to be somebody else's.
	ErrLockStolen = lock.ErrLockStolen
	// ErrManagerClosed means that the lock manager was closed.
	ErrManagerClosed = lock.ErrManagerClosed
	// ErrLockRedis means that Redis failed, and says nothing about the lock.
	ErrLockRedis = lock.ErrRedis
)

// Notifications. See package notification.
type (
	// NotificationSystem publishes events and subscribes to them. See package notification.
	NotificationSystem = notification.NotificationSystem
	// RedisNotificationSystem is the NotificationSystem of this module, which can also
	// publish anything to any channel, resume and replay. See package notification.
	RedisNotificationSystem = notification.RedisNotificationSystem
	// NotificationMetrics is what GetMetrics of a RedisNotificationSystem returns.
	NotificationMetrics = notification.NotificationMetrics
	// Subscriber is what Subscribe returns: a channel of messages that can be closed.
	Subscriber = notification.Subscriber
	// Subscription is what every Subscriber of this module is: it also reports gaps,
	// and why it was closed. See package notification.
	Subscription = notification.Subscription
	// Message is one event as a subscriber receives it: channel, JSON payload, event ID.
	Message = notification.Message
	// WorkflowEvent says that a workflow changed: ID, status, data.
	WorkflowEvent = notification.WorkflowEvent
	// TaskEvent says that a task of a workflow changed: ID, workflow ID, status, data.
	TaskEvent = notification.TaskEvent
	// PublishError says that an event was not published, or that nobody knows (Uncertain).
	PublishError = notification.PublishError
	// Gap says that events may be missing, where, and for which reason.
	Gap = notification.Gap
	// GapReason says why events may be missing.
	GapReason = notification.GapReason
	// Policy says what happens to a subscription whose buffer is full.
	Policy = notification.Policy
	// Outgoing is an event for PublishBatch: a *WorkflowEvent, a *TaskEvent, or To.
	Outgoing = notification.Outgoing
	// HandleOption is an option of Handle and Consume: notification.WithReady.
	HandleOption = notification.HandleOption
	// ConsumeOption is an option of Consume: notification.WithMaxAttempts and so on.
	ConsumeOption = notification.ConsumeOption
	// Consumer is what Consume needs of a NotificationSystem.
	Consumer = notification.Consumer
	// ConsumeSettings are what the options of Consume set.
	ConsumeSettings = notification.ConsumeSettings
	// DeadLetter is an event that a group of Consume has given up.
	DeadLetter = notification.DeadLetter
	// NotificationOption is an option of NewRedisNotificationSystem:
	// notification.WithPolicy and so on.
	NotificationOption = notification.Option
)

// NewRedisNotificationSystem makes a notification system on any go-redis client, with
// the options of package notification. It is the caller's to close; the one of Module
// or SetupCache is made and closed by them.
func NewRedisNotificationSystem(
	rdb redis.UniversalClient, opts ...NotificationOption,
) (*RedisNotificationSystem, error) {
	return notification.NewRedisNotificationSystem(rdb, opts...)
}

// Channels that carry every event of their kind.
const (
	WorkflowEvents = notification.WorkflowEvents
	TaskEvents     = notification.TaskEvents
)

// The policies for a full buffer. Package notification says more on each.
const (
	PolicyReplay     = notification.PolicyReplay
	PolicyDropOldest = notification.PolicyDropOldest
	PolicyDropNewest = notification.PolicyDropNewest
	PolicyDisconnect = notification.PolicyDisconnect
)

// The reasons for a gap. Package notification says more on each.
const (
	GapLate        = notification.GapLate
	GapReconnected = notification.GapReconnected
	GapTrimmed     = notification.GapTrimmed
	GapWiped       = notification.GapWiped
	GapRolledBack  = notification.GapRolledBack
	GapFailover    = notification.GapFailover
	GapRestarted   = notification.GapRestarted
	GapForeign     = notification.GapForeign
	GapOverflow    = notification.GapOverflow
	GapUnreadable  = notification.GapUnreadable
)

// Errors of notifications.
var (
	// ErrNotificationsClosed means that the system was closed.
	ErrNotificationsClosed = notification.ErrClosed
	// ErrSlowSubscriber is the Err of a Subscription that the policy disconnect closed.
	ErrSlowSubscriber = notification.ErrSlowSubscriber
	// ErrNotLive means that subscriptions exist, but do not receive just now.
	ErrNotLive = notification.ErrNotLive
	// ErrPermanent matches what Permanent returns.
	ErrPermanent = notification.ErrPermanent
	// ErrNoHistory means that the journal is needed, but history is switched off.
	ErrNoHistory = notification.ErrNoHistory
)

// Decode reads the payload of a message as JSON. A payload that is none gives an
// error that names the channel.
func Decode[T any](m *Message) (T, error) { return notification.Decode[T](m) }

// Handle subscribes and calls a function with each event, decoded, until ctx ends.
func Handle[T any](
	ctx context.Context, n NotificationSystem, pattern string, handle func(context.Context, T) error, opts ...HandleOption,
) error {
	return notification.Handle(ctx, n, pattern, handle, opts...)
}

// Consume shares the events of a channel or glob among all that name the same group, and
// calls a function with each, decoded, at least once.
func Consume[T any](
	ctx context.Context, n NotificationSystem, group, pattern string, handle func(context.Context, T) error,
	opts ...ConsumeOption,
) error {
	return notification.Consume(ctx, n, group, pattern, handle, opts...)
}

// Options of Consume, the first also of Handle. Package notification says more on each.

// WithReady has a function called once what is published from then on is handled.
func WithReady(ready func()) HandleOption { return notification.WithReady(ready) }

// WithMaxAttempts sets how often an event is tried before it goes to the dead letters.
func WithMaxAttempts(n int) ConsumeOption { return notification.WithMaxAttempts(n) }

// WithBackoff sets after which time an event comes again that failed, and the longest.
func WithBackoff(first, longest time.Duration) ConsumeOption {
	return notification.WithBackoff(first, longest)
}

// WithClaimAfter sets when the events of a process without a sign of life are taken over.
func WithClaimAfter(d time.Duration) ConsumeOption { return notification.WithClaimAfter(d) }

// WithConcurrency sets how many events are handled at the same time.
func WithConcurrency(n int) ConsumeOption { return notification.WithConcurrency(n) }

// WithDeadLetters sets how many dead letters a group keeps.
func WithDeadLetters(n int) ConsumeOption { return notification.WithDeadLetters(n) }

// WithFrom sets where a new group begins.
func WithFrom(eventID string) ConsumeOption { return notification.WithFrom(eventID) }

// WithOnGap has a function called when events may be missing.
func WithOnGap(onGap func(Gap)) ConsumeOption { return notification.WithOnGap(onGap) }

// Permanent returns an error with which a function called by Consume says that another
// attempt would change nothing.
func Permanent(err error) error { return notification.Permanent(err) }

// AttemptFrom returns how often the event that a function called by Consume works on was
// handed out by now.
func AttemptFrom(ctx context.Context) int { return notification.AttemptFrom(ctx) }

// MessageFrom returns the message that a function called by Handle or Consume works on.
func MessageFrom(ctx context.Context) (*Message, bool) { return notification.MessageFrom(ctx) }

// Literal returns a glob that matches the text and nothing else, to be a part of a
// pattern for Subscribe.
func Literal(text string) string { return notification.Literal(text) }

// To is an event for PublishBatch that publishes v, which must marshal to a JSON
// object, to one channel.
func To(channel string, v any) Outgoing { return notification.To(channel, v) }

// Health. See package health.
type (
	// Health serves the reports of all checks in the group HealthGroup.
	Health = health.Health
	// Check is one question of a health report.
	Check = health.Check
	// CheckKind says what a failed check means: Readiness or Liveness.
	CheckKind = health.Kind
	// HealthReport is what Run of Health returns.
	HealthReport = health.Report
)

// The kinds of checks.
const (
	// Readiness means that the instance should get no traffic while the check fails.
	Readiness = health.Readiness
	// Liveness means that the instance should be started again when the check fails.
	Liveness = health.Liveness
)
