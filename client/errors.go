package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/redisx"
)

// States of the client itself.
var (
	// ErrNotStarted is returned by commands sent before Open.
	ErrNotStarted = redisx.ErrNotStarted
	// ErrClosed is returned by WaitReady and the health checks after Close. Commands
	// return redis.ErrClosed, as with any go-redis client.
	ErrClosed = errors.New("client: closed")
)

// ErrInvalidArgument matches the [*ArgumentError] of calls without a context, with an option
// that is nil, or on a nil or zero Redis. Nothing was sent.
var ErrInvalidArgument = arguments.ErrInvalid

// ArgumentError says which argument cannot be used, and why. All packages of this
// module share it.
type ArgumentError = arguments.Error

// errZero is the error of calls on a nil or zero Redis.
func errZero() error {
	return &ArgumentError{Argument: "Redis", Reason: "is nil or zero; New and NewRedis make one"}
}

// Kinds of trouble with the server, found in an [Error].
var (
	// ErrUnreachable: no connection, no answer in time, a server that is too busy to give
	// one, or a pool of which all connections are in use.
	ErrUnreachable = errors.New("client: server unreachable")
	// ErrTLS: the server was reached but the TLS handshake failed, which includes a client
	// certificate that it misses or refuses.
	ErrTLS = errors.New("client: TLS handshake failed")
	// ErrAuth: user or password are wrong or missing.
	ErrAuth = errors.New("client: authentication failed")
	// ErrLoading: the server is still loading its data, or a replica has not
	// got it yet from its master.
	ErrLoading = errors.New("client: server is loading")
	// ErrReadOnly: the server is a replica that refuses writes.
	ErrReadOnly = errors.New("client: server is a read-only replica")
	// ErrOutOfMemory: the server's memory limit is reached and it refuses writes.
	ErrOutOfMemory = errors.New("client: server is out of memory for writes")
	// ErrDisk: the server could not save its data to disk and refuses writes until
	// it can.
	ErrDisk = errors.New("client: server cannot save to disk")
	// ErrNoReplicas: fewer replicas than min-replicas-to-write are in sync, and the
	// server refuses writes until they are.
	ErrNoReplicas = errors.New("client: too few replicas for writes")
	// ErrClusterDown: the Cluster does not serve all slots.
	ErrClusterDown = errors.New("client: cluster is down")
	// ErrRefused: the server answers with an error that trying again does not
	// cure, such as a database number it does not have or a permission that the
	// user lacks.
	ErrRefused = errors.New("client: refused by the server")
	// ErrUnsupported: the address leads to something else than the configuration
	// says, such as a Sentinel or a node of a Cluster, to a server that is too old, or to a
	// Cluster with a node that does not say at which host it is.
	ErrUnsupported = errors.New("client: unsupported server")
)

// Error says what is wrong with which server. It matches its Kind and wraps its
// cause, for errors.Is and errors.As.
type Error struct {
	// Addr is the address, without credentials.
	Addr string
	// LockNode is set if that is one of the Config's LockNodes.
	LockNode bool
	// Kind is one of this package's sentinel errors.
	Kind error
	// Err is what Redis or the network said; it may be nil.
	Err error
}

// Error names kind, address and cause.
func (e *Error) Error() string {
	at := " at "
	if e.LockNode {
		at = " at lock node "
	}
	s := e.Kind.Error() + at + e.Addr
	if e.Err != nil {
		s += ": " + strings.TrimPrefix(e.Err.Error(), "client: ")
	}
	return s
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// classify returns the kind of an error that a command or a check met.
func classify(err error) error {
	switch {
	case errors.Is(err, ErrNotStarted):
		return ErrNotStarted
	case errors.Is(err, redis.ErrClosed), errors.Is(err, ErrClosed):
		return ErrClosed
	case isAuth(err), errors.Is(err, errLonelyUser):
		return ErrAuth
	case redis.IsLoadingError(err), redis.IsMasterDownError(err):
		return ErrLoading
	case redis.IsClusterDownError(err), errors.Is(err, errSlots):
		return ErrClusterDown
	case redis.IsReadOnlyError(err):
		return ErrReadOnly
	case redis.IsOOMError(err):
		return ErrOutOfMemory
	case redis.IsNoReplicasError(err):
		return ErrNoReplicas
	case redis.HasErrorPrefix(err, "MISCONF"):
		return ErrDisk // such a server refuses even a PING
	case redis.IsMaxClientsError(err), redis.IsTryAgainError(err), redis.HasErrorPrefix(err, "BUSY "):
		return ErrUnreachable
	case isHandshakeError(err):
		return ErrTLS
	case errors.Is(err, errNoHost):
		return ErrUnsupported
	}
	if _, ok := errors.AsType[redis.Error](err); ok {
		return ErrRefused
	}
	return ErrUnreachable
}

// isAuth recognises every answer of a server that does not accept the credentials. Those of
// sentinels are inside an error of go-redis. isFixedReply says which server says what.
func isAuth(err error) bool {
	s := err.Error()
	return redis.IsAuthError(err) || strings.Contains(s, "WRONGPASS") || strings.Contains(s, "NOAUTH") ||
		strings.Contains(s, "ERR invalid password") || strings.Contains(s, "ERR AUTH ")
}

// permanent reports whether waiting cannot cure err. A start waits for memory and for a
// disk, which somebody may free while it does, although redisx.IsTransient does not have a
// command repeated for them: that is not a matter of moments.
func permanent(err error) bool {
	lasting := []error{ErrAuth, ErrTLS, ErrRefused, ErrUnsupported, ErrNotStarted, ErrClosed}
	return slices.ContainsFunc(lasting, func(kind error) bool { return errors.Is(err, kind) })
}

// isContext reports whether err only says that a context ended.
func isContext(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// explain makes an *Error of what a check of the server at addr met, in words that say
// what to change where that is known. It returns ErrNotStarted and ErrClosed as they
// are.
func (s *server) explain(ctx context.Context, addr string, err error) error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	if fault, ok := errors.AsType[foreignError](foreign(err)); ok {
		return s.failure(addr, ErrUnreachable, fault)
	}
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "redis: Conn is in a bad state: ") {
		err = inner // what the first command met on a connection that a second was to use
	}
	kind, short := classify(err), discreetReply(err)
	switch {
	case errors.Is(kind, ErrNotStarted), errors.Is(kind, ErrClosed):
		return kind
	case s.poolIsBusy(ctx, err):
		short = s.endpoint.advised(s.endpoint.poolAdvice(), short)
	case errors.Is(kind, ErrTLS), errors.Is(kind, ErrUnreachable):
		if trouble := s.tlsTrouble(ctx, err); trouble != nil {
			kind, short = ErrTLS, trouble
		} else {
			short = s.late(s.endpoint.advised(s.endpoint.tlsAdvice(err), short))
		}
	case errors.Is(kind, ErrAuth):
		short = s.endpoint.advised(s.endpoint.credentialsAdvice(err), short)
	case errors.Is(kind, ErrRefused):
		switch problem, denied := s.mismatch(ctx, err); {
		case problem != "":
			return s.failure(addr, ErrUnsupported, s.endpoint.advised(problem, short))
		case denied != nil:
			return s.explain(ctx, addr, denied)
		}
		short = s.refusal(err)
	}
	return s.failure(addr, kind, short)
}

// failure is the error of a check of the server at addr, which is that of s or, in a
// Cluster, of one of its nodes.
func (s *server) failure(addr string, kind, err error) *Error {
	return &Error{Addr: addr, LockNode: s.endpoint.lockNode, Kind: kind, Err: err}
}

// advised puts advice, which is ours, before the error that it is about; either may be
// missing. Variables in it get the prefix of those that the settings were read from.
func (e *endpoint) advised(advice string, err error) error {
	advice = strings.ReplaceAll(advice, "REDIS_", e.prefix+"REDIS_")
	switch {
	case advice == "":
		return err
	case err == nil:
		return errors.New(advice)
	default:
		return fmt.Errorf("%s (%w)", advice, err)
	}
}

// credentialsAdvice says which setting to look at when a server does not accept the
// credentials, as err says.
func (e *endpoint) credentialsAdvice(err error) string {
	user, password, text := "Username (REDIS_USERNAME)", "Password (REDIS_PASSWORD)", err.Error()
	fromURL := " or the user part of the URL"
	if e.mode == modeSentinel {
		fromURL = "" // there is no URL then
	}
	switch {
	case e.ownURL:
		return "check the user part of its URL in LockNodes (REDIS_LOCK_NODES)"
	case strings.Contains(text, allSentinels):
		user, password = "SentinelUsername (REDIS_SENTINEL_USERNAME)", "SentinelPassword (REDIS_SENTINEL_PASSWORD)"
	case e.options.CredentialsProviderContext != nil:
		return "check what PasswordFile (REDIS_PASSWORD_FILE), Credentials or CredentialsProvider provide"
	}
	if strings.Contains(text, "NOAUTH") {
		return "set " + password + fromURL
	}
	return "check " + user + " and " + password + fromURL
}

// poolAdvice says which setting to look at when no connection comes free.
func (e *endpoint) poolAdvice() string {
	setting := "PoolSize (REDIS_POOL_SIZE)"
	if e.maxConns() < e.options.PoolSize {
		setting = "max_active_conns of the URL"
	}
	return fmt.Sprintf("all %d connections of the pool are in use, by commands that take long or get no answer; see %s",
		e.maxConns(), setting)
}

// databaseAdvice says which setting to look at when the database does not exist.
func (e *endpoint) databaseAdvice() string {
	switch {
	case e.ownURL:
		return "check the path of its URL in LockNodes (REDIS_LOCK_NODES)"
	case e.mode == modeSentinel:
		return "check DB (REDIS_DB)"
	default:
		return "check DB (REDIS_DB) or the path of the URL"
	}
}

// refusal says in words what the server refuses, without what it quotes.
func (s *server) refusal(err error) error {
	tried, err := triedCommand(err)
	text, short := err.Error(), discreetReply(err)
	unknown := unknownCommand(err)
	if strings.Contains(text, "Unknown Redis command called from script") {
		unknown = tried
	}
	// NOPERM is what all say; only within a script Redis 7.0 says ERR and these words.
	inScript := strings.Contains(text, "user executing the script can't")
	switch {
	case unknown != "":
		return fmt.Errorf("the server does not know %s, which is needed: %w", unknown, short)
	case redis.HasErrorPrefix(err, "DENIED"):
		return s.endpoint.advised("it is in protected mode; set a password there, or a user in its ACL", short)
	case strings.Contains(text, "DB index is out of range"):
		return s.endpoint.advised(s.endpoint.databaseAdvice(), short)
	case !redis.IsPermissionError(err) && !inScript:
		return short
	}
	user := "the user"
	if name := s.endpoint.options.Username; name != "" && s.endpoint.provided == nil {
		user = "user " + name
	}
	_, command, named := strings.Cut(text, "run the '")
	command, _, _ = strings.Cut(command, "'")
	switch {
	case named:
		return fmt.Errorf("%s may not run %s: %w", user, strings.ToUpper(strings.ReplaceAll(command, "|", " ")), short)
	case inScript && strings.Contains(text, "this command"):
		return fmt.Errorf("%s may not run %s: %w", user, tried, short)
	case strings.Contains(text, "channel"):
		return fmt.Errorf("%s may not publish to channels that begin with %q: %w", user, s.prefix, short)
	case strings.Contains(text, "key"):
		return fmt.Errorf("%s may not read and write keys that begin with %q: %w", user, s.prefix, short)
	default:
		return fmt.Errorf("%s lacks a permission: %w", user, short)
	}
}
