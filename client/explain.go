package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// adviceForSentinel says what to change where a server turns out to be a Sentinel.
func (s *server) adviceForSentinel() string {
	if s.lockNode {
		return "it is a Sentinel; LockNodes (REDIS_LOCK_NODES) are the Redis servers themselves"
	}
	return "it is a Sentinel; set MasterName and Addrs (REDIS_MASTER_NAME and REDIS_ADDRS)"
}

// adviceForClusterNode says what to change where a server turns out to be a node of a Cluster.
func (s *server) adviceForClusterNode() string {
	if s.lockNode {
		return "it is a node of a Cluster; LockNodes (REDIS_LOCK_NODES) are independent servers"
	}
	return "it is a node of a Cluster; set Cluster (REDIS_CLUSTER=true)"
}

// explain makes an *Error of what a check of the server at addr met, in words that say
// what to change where that is known. It returns ErrNotStarted and ErrClosed as they
// are.
func (s *server) explain(ctx context.Context, addr string, err error) error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	kind := classify(err)
	short := discreetReply(err)
	switch {
	case errors.Is(kind, ErrNotStarted), errors.Is(kind, ErrClosed):
		return kind
	case errors.Is(kind, ErrTLS), errors.Is(kind, ErrUnreachable):
		switch {
		case s.speaksTLS(ctx, err):
			kind, short = ErrTLS, errors.New("the server seems to speak TLS: use rediss:// or REDIS_TLS=true")
		case s.speaksPlain(ctx, err):
			kind, short = ErrTLS, errors.New("the server does not speak TLS: use redis:// without REDIS_TLS")
		default:
			short = advised(s.endpoint.tlsAdvice(err), short)
		}
	case errors.Is(kind, ErrAuth):
		short = advised(s.endpoint.credentialsAdvice(err), short)
	case errors.Is(kind, ErrRefused):
		if problem := s.mismatch(ctx, err); problem != "" {
			return s.failure(addr, ErrUnsupported, advised(problem, short))
		}
		short = s.refusal(err)
	}
	return s.failure(addr, kind, short)
}

// failure is the error of a check of the server at addr, which is that of s or, in a
// Cluster, of one of its nodes.
func (s *server) failure(addr string, kind, err error) *Error {
	return &Error{Addr: addr, LockNode: s.lockNode, Kind: kind, Err: err}
}

// advised puts advice, if there is any, before the error that it is about.
func advised(advice string, err error) error {
	if advice == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", advice, err)
}

// allSentinels is how the error of go-redis begins when it got no master from any
// sentinel. Nothing but this text says that a sentinel refused.
const allSentinels = "redis: all sentinels specified in configuration are unreachable"

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

// mismatch returns what is wrong if err is how a server of another kind refuses a
// client.
func (s *server) mismatch(ctx context.Context, err error) string {
	text := err.Error()
	_, moved := redis.IsMovedError(err)
	switch {
	case s.endpoint.mode == modeCluster:
		if strings.Contains(text, "cluster support disabled") || isUnknown(err, "cluster") {
			return "it is no Cluster; do not set Cluster (REDIS_CLUSTER)"
		}
	case s.endpoint.mode == modeSentinel:
		if isUnknown(err, "sentinel") {
			return "it is no Sentinel; do not set MasterName (REDIS_MASTER_NAME), or set Addrs (REDIS_ADDRS) to the sentinels"
		}
		// Wrapped: it is what the sentinels said, and no reply to our command.
		if errors.Is(err, redis.Nil) {
			return "the sentinels know no master of this name; see MasterName (REDIS_MASTER_NAME)"
		}
	case moved, strings.Contains(text, "not allowed in cluster mode"):
		return s.adviceForClusterNode()
	default:
		return s.identify(ctx)
	}
	return ""
}

// identify asks the server what it is over a connection of its own that selects no
// database and sets no name, which a Sentinel and a Cluster refuse. It returns "" if
// the server does not say.
func (s *server) identify(ctx context.Context) string {
	o := s.endpoint.options.Simple()
	o.Network, o.Addr, o.Dialer = s.endpoint.network, s.endpoint.addrs[0], s.dial
	o.DB, o.ClientName, o.PoolSize, o.MinIdleConns, o.MaxRetries = 0, "", 1, 0, -1
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	c.AddHook(nodeHook{gate: s.gate})
	said, err := c.Info(ctx, "server").Result()
	if err != nil {
		return ""
	}
	return s.misfit(ctx, said, c)
}

// misfit says why a Redis that describes itself like this cannot be used at all; ""
// if nothing is known against it.
func (s *server) misfit(ctx context.Context, info string, node redis.UniversalClient) string {
	mode := infoField(info, "redis_mode")
	switch {
	case mode == "sentinel":
		return s.adviceForSentinel()
	case mode == "cluster" && s.endpoint.mode != modeCluster:
		// A Cluster of one node serves everybody.
		state, err := node.ClusterInfo(ctx).Result()
		if err != nil || infoField(state, "cluster_size") != "1" {
			return s.adviceForClusterNode()
		}
	}
	return adviceForVersion(info)
}

// refusal says in words what the server refuses, without what it quotes.
func (s *server) refusal(err error) error {
	tried, err := triedCommand(err)
	text, short := err.Error(), discreetReply(err)
	name := unknownCommand(err)
	if strings.Contains(text, "Unknown Redis command called from script") {
		name = tried
	}
	if name != "" {
		return fmt.Errorf("the server does not know %s, which is needed: %w", name, short)
	}
	if redis.HasErrorPrefix(err, "DENIED") {
		return advised("it is in protected mode; set a password there, or a user in its ACL", short)
	}
	if strings.Contains(text, "DB index is out of range") {
		return advised(s.endpoint.databaseAdvice(), short)
	}
	// The second is how Redis 7.0 says the first within a script.
	inScript := strings.Contains(text, "user executing the script can't")
	if !redis.IsPermissionError(err) && !inScript {
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
		return fmt.Errorf("%s may not publish to channels that begin with %q: %w", user, s.ownPrefix(), short)
	case strings.Contains(text, "key"):
		return fmt.Errorf("%s may not read and write keys that begin with %q: %w", user, s.ownPrefix(), short)
	default:
		return fmt.Errorf("%s lacks a permission: %w", user, short)
	}
}

// ownPrefix is what our keys and channels begin with.
func (s *server) ownPrefix() string { return strings.TrimSuffix(s.prefix, probeKey) }
