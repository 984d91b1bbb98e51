package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"unicode"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// A server or proxy that does not accept HELLO or AUTH may quote the command with all of
// its arguments, the password among them, and go-redis returns that reply from whatever
// command, subscription or lock needed the connection. So the replies to these two lose
// all that is not one of Redis' own sentences before anything else sees them: how a
// proxy may quote or escape a password cannot be known.

// isFixedReply recognises what Redis says about credentials and connections, word for
// word. That quotes nothing, and the kinds of errors depend on it.
func isFixedReply(reply string) bool {
	switch reply {
	case "ERR invalid password",
		"ERR Client sent AUTH, but no password is set",
		"ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
		"ERR max number of clients reached",
		"ERR max number of clients + cluster connections reached",
		"WRONGPASS invalid username-password pair or user is disabled.",
		"NOAUTH Authentication required.":
		return true
	default:
		return false
	}
}

// hidesArguments returns err without anything that it may quote, if it is the reply to a
// cmd that carries credentials; otherwise err.
func hidesArguments(cmd redis.Cmder, err error) error {
	if err == nil || err == redis.Nil { //nolint:errorlint // by far the most frequent, and never wrapped by a reply
		return err
	}
	name := cmd.Name()
	if name != "hello" && name != "auth" {
		return err
	}
	reply, ok := errors.AsType[redis.Error](err)
	if !ok || isFixedReply(reply.Error()) || len(secrets(cmd.Args())) == 0 {
		return err
	}
	if redis.HasErrorPrefix(reply, "unknown command") {
		return shortReplyError{fmt.Sprintf("ERR unknown command '%s', whose arguments are left out", name), nil}
	}
	text := fmt.Sprintf("%s (the reply to %s is left out, as it may quote its arguments)", replyCode(reply), strings.ToUpper(name))
	return shortReplyError{text, nil}
}

// secrets returns the arguments of a HELLO or AUTH without the words of the command.
func secrets(args []any) []string {
	var out []string
	for i, arg := range args[1:] {
		text := fmt.Sprint(arg)
		isWord := i == 0 && len(text) == 1 || i == 1 && text == "auth" || i == 4 && text == "setname"
		if fmt.Sprint(args[0]) == "hello" && isWord { // HELLO 3 AUTH user password SETNAME name
			continue
		}
		out = append(out, text)
	}
	return out
}

// quotedAtLeast is how many letters and digits of an argument are enough to recognise
// it: Redis cuts off what it quotes.
const quotedAtLeast = 8

// quotes reports whether a reply may show one of secrets, or the beginning of one, in
// whatever case, quotation marks or escapes.
func quotes(reply string, secrets []string) bool {
	if isFixedReply(reply) {
		return false
	}
	folded := fold(reply)
	return slices.ContainsFunc(secrets, func(s string) bool {
		begin := fold(s)
		if begin == "" { // nothing but punctuation
			return s != "" && strings.Contains(reply, s)
		}
		return strings.Contains(folded, begin[:min(len(begin), quotedAtLeast)])
	})
}

// hideSentinels does the same for what sentinels say: go-redis asks them when it dials,
// with clients of its own that have no hooks.
func hideSentinels(secrets []string, next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err == nil || !redisx.IsReply(err) || !quotes(err.Error(), secrets) {
			return conn, err
		}
		code := "ERR"
		for _, known := range []string{"WRONGPASS", "NOAUTH", "NOPERM"} {
			if strings.Contains(err.Error(), known) {
				code = known
			}
		}
		return conn, shortReplyError{allSentinels + ": " + code + " (their replies are left out, as they quote the credentials)", nil}
	}
}

// fold returns the letters and digits of s in lower case.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
}

// replyCode returns the code of a reply, which is ERR unless it is one of Redis' own:
// somebody else may have put anything there.
func replyCode(reply error) string {
	code, _, _ := strings.Cut(reply.Error(), " ")
	if !isReplyCode(code) {
		return "ERR"
	}
	return code
}
