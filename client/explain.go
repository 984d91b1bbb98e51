package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// What is wrong when a server of one kind is used as one of another.
type mistake int

const (
	isSentinel mistake = iota
	isClusterNode
	isNoCluster
	isNoSentinel
	isUnknownMaster
)

// advice names a mistake and the way out.
func (s *server) advice(m mistake) string {
	if s.lockNode {
		return [...]string{
			isSentinel:    "it is a Sentinel; LockNodes (REDIS_LOCK_NODES) are the Redis servers themselves",
			isClusterNode: "it is a node of a Cluster; LockNodes (REDIS_LOCK_NODES) are independent servers",
		}[m]
	}
	return [...]string{
		isSentinel:      "it is a Sentinel; set MasterName and Addrs (REDIS_MASTER_NAME and REDIS_ADDRS)",
		isClusterNode:   "it is a node of a Cluster; set Cluster (REDIS_CLUSTER=true)",
		isNoCluster:     "it is no Cluster; do not set Cluster (REDIS_CLUSTER)",
		isNoSentinel:    "it is no Sentinel; do not set MasterName (REDIS_MASTER_NAME), or set Addrs (REDIS_ADDRS) to the sentinels",
		isUnknownMaster: "the sentinels know no master of this name; see MasterName (REDIS_MASTER_NAME)",
	}[m]
}

// explain makes an *Error of what a check of the server called name met, in words
// that say what to change where that is known. It returns ErrNotStarted and ErrClosed
// as they are.
func (s *server) explain(ctx context.Context, name string, err error) error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	kind := classify(err)
	switch {
	case errors.Is(kind, ErrNotStarted), errors.Is(kind, ErrClosed):
		return kind
	case errors.Is(kind, ErrTLS), errors.Is(kind, ErrUnreachable):
		switch {
		case s.speaksTLS(ctx, err):
			kind, err = ErrTLS, errors.New("the server seems to speak TLS: use rediss:// or REDIS_TLS=true")
		case s.speaksPlain(ctx, err):
			kind, err = ErrTLS, errors.New("the server does not speak TLS: use redis:// without REDIS_TLS")
		}
	case errors.Is(kind, ErrRefused):
		if problem := s.mismatch(ctx, err); problem != "" {
			return &Error{Addr: name, Kind: ErrUnsupported, Err: fmt.Errorf("%s (%w)", problem, discreetReply(err))}
		}
		err = s.refusal(err)
	}
	return &Error{Addr: name, Kind: kind, Err: err}
}

// mismatch returns what is wrong if err is how a server of another kind refuses us.
func (s *server) mismatch(ctx context.Context, err error) string {
	text := err.Error()
	_, moved := redis.IsMovedError(err)
	switch {
	case s.endpoint.mode == modeCluster:
		if strings.Contains(text, "cluster support disabled") || isUnknown(err, "cluster") {
			return s.advice(isNoCluster)
		}
	case s.endpoint.mode == modeSentinel:
		if isUnknown(err, "sentinel") {
			return s.advice(isNoSentinel)
		}
		if errors.Is(err, redis.Nil) {
			return s.advice(isUnknownMaster)
		}
	case moved, strings.Contains(text, "not allowed in cluster mode"):
		return s.advice(isClusterNode)
	default:
		return s.identify(ctx)
	}
	return ""
}

// refusal says in words what the server refuses, without what it quotes.
func (s *server) refusal(err error) error {
	text := err.Error()
	name := unknownCommand(err)
	if strings.Contains(text, "Unknown Redis command called from script") {
		name = "SET"
	}
	if name != "" {
		return fmt.Errorf("the server does not know %s, which is needed: %w", name, discreetReply(err))
	}
	// The second is how Redis 7.0 says the first within a script.
	inScript := strings.Contains(text, "user executing the script can't")
	if !redis.IsPermissionError(err) && !inScript {
		return discreetReply(err)
	}
	user := "the user"
	if name := s.endpoint.options.Username; name != "" && s.endpoint.provided == nil {
		user = "user " + name
	}
	_, command, named := strings.Cut(text, "run the '")
	command, _, _ = strings.Cut(command, "'")
	switch {
	case named:
		return fmt.Errorf("%s may not run %s: %w", user, strings.ToUpper(strings.ReplaceAll(command, "|", " ")), err)
	case strings.Contains(text, "keys"):
		prefix := strings.TrimSuffix(s.prefix, probeKey)
		return fmt.Errorf("%s may not read and write keys that begin with %q: %w", user, prefix, err)
	case inScript:
		return fmt.Errorf("%s may not run SET: %w", user, err)
	default:
		return fmt.Errorf("%s lacks a permission: %w", user, err)
	}
}

// unknownCommand returns the name, in capitals, of the command that the server says
// it does not know, or "". The reply quotes the command with all its arguments.
func unknownCommand(err error) string {
	if !redis.HasErrorPrefix(err, "unknown command") {
		return ""
	}
	_, after, _ := strings.Cut(err.Error(), "unknown command")
	name, _, _ := strings.Cut(strings.TrimLeft(after, " '`\""), ",")
	return strings.ToUpper(strings.Trim(name, " '`\""))
}

func isUnknown(err error, command string) bool {
	return strings.EqualFold(unknownCommand(err), command)
}

// cutReplyError is a reply of which a part is left out.
type cutReplyError string

func (r cutReplyError) Error() string { return string(r) }
func (cutReplyError) RedisError()     {}

// discreetReply cuts the arguments of our command, such as the source of a script, off
// a reply that quotes them.
func discreetReply(err error) error {
	if text, _, quotes := strings.Cut(err.Error(), ", with args beginning with"); quotes {
		return cutReplyError(text)
	}
	return err
}

// replyText is discreetReply as text.
func replyText(err error) string { return discreetReply(err).Error() }

// speaksTLS reports whether the server takes a TLS handshake, where plain text was
// spoken and err was what came of it. It does not ask a server that was not reached,
// or that is merely slow.
func (s *server) speaksTLS(ctx context.Context, err error) bool {
	if s.endpoint.tls != nil || redisx.IsReply(err) || isContext(err) || isDial(err) {
		return false
	}
	return slices.ContainsFunc(s.endpoint.addrs, func(addr string) bool {
		conn, err := s.plain(ctx, s.endpoint.network, addr)
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		// Nothing is sent over this connection: whose it is does not matter. A server
		// that asks for a certificate speaks TLS too.
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
		err = secure.HandshakeContext(ctx)
		return err == nil || isAlert(err)
	})
}

// speaksPlain reports whether the server answers in plain text, where a handshake got
// an answer that is none, or no answer, as err says.
func (s *server) speaksPlain(ctx context.Context, err error) bool {
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	if s.endpoint.tls == nil || s.reached.Load() || !noTLS && !isContext(err) {
		return false
	}
	return slices.ContainsFunc(s.endpoint.addrs, func(addr string) bool {
		b, err := firstByte(ctx, s.plain, s.endpoint.network, addr)
		return err == nil && (b == '+' || b == '-')
	})
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

// isDial reports whether err means that no connection was made.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
