package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// A server or proxy that does not accept HELLO or AUTH may quote the command with all of
// its arguments, the password among them, and go-redis returns that from whatever command,
// subscription or lock needed the connection: as the reply, or as an answer that it cannot
// read. So these lose all that is not one of Redis' own sentences before anything else sees
// them: how a proxy may quote or escape a password cannot be known.

// isFixedReply recognises what Redis says about credentials and connections, word for
// word. That quotes nothing, and the kinds of errors depend on it.
func isFixedReply(reply string) bool {
	return slices.Contains([]string{
		"ERR invalid password",                         // Redis before 6
		"ERR Client sent AUTH, but no password is set", // the same
		// Redis 6 and later, and Valkey
		"ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
		"ERR max number of clients reached",
		"ERR max number of clients + cluster connections reached", // with cluster-enabled
		"WRONGPASS invalid username-password pair or user is disabled.",
		"NOAUTH Authentication required.",
	}, reply)
}

// hidesArguments returns err without anything that it may quote, if a cmd that carries
// credentials met it; otherwise err.
func hidesArguments(cmd redis.Cmder, err error) error {
	name := cmd.Name()
	if err == nil || name != "auth" && (name != "hello" || len(cmd.Args()) <= 2) { // HELLO 3 says no more than that
		return err
	}
	return hideReply(err, name)
}

// hideReply returns err, but of a reply to a command of this name, or of any if there is none,
// only as much as is Redis' own, and nothing of what may quote an answer in another form.
func hideReply(err error, name string) error {
	reply, ok := errors.AsType[redis.Error](err)
	switch {
	case isDial(err), ok && (reply == redis.Nil || isFixedReply(reply.Error())):
		return err
	case ok && name != "" && redis.HasErrorPrefix(reply, "unknown command"):
		return shortReplyError{fmt.Sprintf("ERR unknown command '%s', whose arguments are left out", name), nil}
	case ok:
		return shortReplyError{replyCode(reply) + " (the rest of the reply is left out, as it may quote credentials)", nil}
	case isNetwork(err):
		return err
	default:
		return errUnreadable
	}
}

// errUnreadable stands for an answer that is no reply. The errors of go-redis about these have no type.
var errUnreadable = errors.New("client: no reply of a Redis (what came instead is left out, as it may quote credentials)")

// isNetwork reports whether err says that there was no answer, and so quotes none.
func isNetwork(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || isHandshakeError(err) || isContext(err) || redisx.IsUnsent(err) ||
		slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed},
			func(known error) bool { return errors.Is(err, known) })
}

// allSentinels is how the error of go-redis begins when it got no master from any
// sentinel. Nothing but this text says that a sentinel refused.
const allSentinels = "redis: all sentinels specified in configuration are unreachable"

// hideSentinels does the same for what sentinels say to clients with a password: go-redis
// asks them when it dials, with clients of its own that have no hooks.
func hideSentinels(password string, next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if password == "" || err == nil {
			return conn, err
		}
		all, ok := errors.AsType[interface {
			error
			Unwrap() []error
		}](err)
		if !ok || !strings.Contains(err.Error(), allSentinels) {
			return conn, hideReply(err, "")
		}
		var said []error
		for _, e := range all.Unwrap() {
			name := ""
			if isUnknown(e, "sentinel") {
				name = "sentinel"
			}
			said = append(said, hideReply(e, name))
		}
		return conn, dialError{fmt.Errorf("%s: %w", allSentinels, errors.Join(said...))}
	}
}

// replyCode returns the code of a reply, which is ERR unless it is one of Redis' own that
// tell more: somebody else may have put anything there.
func replyCode(reply error) string {
	code, _, _ := strings.Cut(reply.Error(), " ")
	if slices.Contains([]string{
		"ASK", "BUSY", "BUSYGROUP", "BUSYKEY", "CLUSTERDOWN", "CROSSSLOT", "DENIED", "EXECABORT", "LOADING", "MASTERDOWN",
		"MISCONF", "MOVED", "NOAUTH", "NOGROUP", "NOPERM", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN",
		"UNBLOCKED", "WRONGPASS", "WRONGTYPE",
	}, code) {
		return code
	}
	return "ERR"
}

// triedCommand takes off a reply the name that the probe's script puts behind it, of the
// command which that is about.
func triedCommand(err error) (name string, reply error) {
	before, after, ok := strings.Cut(err.Error(), " [")
	name, isName := strings.CutSuffix(after, "]")
	if !ok || !isName || !redisx.IsReply(err) {
		return "", err
	}
	return name, shortReplyError{before, err}
}

// unknownCommand returns the name, in capitals, of the command that the server says
// it does not know, or "". The reply quotes the command with all its arguments: the name in
// backquotes before Redis 7, in single quotes since, and as it is or otherwise by a proxy.
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

// isRedirect reports whether a node of a Cluster says that others serve the key.
func isRedirect(err error) bool {
	_, moved := redis.IsMovedError(err)
	_, ask := redis.IsAskError(err)
	return moved || ask || redis.IsTryAgainError(err)
}

// isChannelRefusal reports whether the user may run a command, but not with this channel.
func isChannelRefusal(err error) bool {
	return redis.IsPermissionError(err) && !strings.Contains(err.Error(), "run the '") && strings.Contains(err.Error(), "channel")
}

// shortReplyError is an error reply of which a part is left out.
type shortReplyError struct {
	text string
	err  error // the whole reply; nil if nobody may see it
}

func (r shortReplyError) Error() string { return r.text }
func (r shortReplyError) Unwrap() error { return r.err }
func (shortReplyError) RedisError()     {}

// discreetReply cuts off a reply what it quotes of our command, such as the source of a
// script, and where in a script the error arose.
func discreetReply(err error) error {
	text := err.Error()
	if before, _, quotes := strings.Cut(text, ", with args beginning with"); quotes {
		return shortReplyError{before, nil}
	}
	before, after, inScript := strings.Cut(text, " script: ")
	if inScript && strings.Contains(after, ", on @user_") {
		return shortReplyError{before, err}
	}
	return err
}
