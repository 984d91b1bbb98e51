package near

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

// sentinels returns a dialer that leads to the master that sentinels name, or nil if there are none.
func (s *session) sentinels(o *redis.Options) dialer {
	if !redisx.FollowsSentinel(s.m.t.set.Client) {
		return nil
	}
	dial := redis.DialHook(o.Dialer)
	if hooker, ok := redisx.Unwrap[redisx.ConnectionHooker](s.m.t.set.Client); ok {
		dial = hooker.ConnectionHook().DialHook(dial) // keeps passwords out of errors
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, o.Network, o.Addr) }
}

// identify opens the connection for questions, and asks which node of a cluster it leads to.
func (s *session) identify(ctx context.Context) error {
	if s.m.node == nil {
		_, err := s.ask(ctx)
		return err
	}
	id, err := s.beside.ClusterMyID(ctx).Result()
	if err != nil {
		if isRefusal(err) {
			s.m.t.alien.Log(s.m.t.set.Logger, zap.ErrorLevel,
				"store: near cache needs CLUSTER MYID and serves nothing", zap.Error(err))
		}
		return err
	}
	s.m.t.change(func() {
		if s.ctx.Err() == nil {
			s.m.id = id
		}
	})
	return nil
}

// check asks whether the server is what it should be. settled says that there is a session with every master of the cluster;
// that changes by itself. An error ends the session.
func (s *session) check() (settled bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.limit)
	defer cancel()
	if s.m.node == nil {
		return s.ask(ctx)
	}
	slots, err := s.beside.ClusterSlots(ctx).Result() //nolint:staticcheck // go-redis needs this command too, and its permission
	if err != nil {
		return false, s.reason(ctx, err)
	}
	masters := make(map[string]bool)
	for _, slot := range slots {
		if len(slot.Nodes) > 0 {
			masters[slot.Nodes[0].ID] = true
		}
	}
	return s.m.t.covers(masters, s.m), nil
}

// ask asks a server outside of a cluster for its role, and sentinels for the master.
func (s *session) ask(ctx context.Context) (settled bool, err error) {
	if !s.blind {
		hello, err := greeting(ctx, s.beside)
		switch {
		case isRefusal(err):
			s.blind = true
		case err != nil:
			return false, s.reason(ctx, err)
		case hello.role != "" && hello.role != "master":
			return false, errRole
		}
	}
	if s.where == nil {
		return true, nil
	}
	conn, err := s.where(ctx, "", "")
	if err != nil {
		return false, s.reason(ctx, err)
	}
	defer func() { _ = conn.Close() }()
	if conn.RemoteAddr().String() == s.remote {
		return true, nil
	}
	if _, err := conn.Write(nil); err != nil {
		return false, s.reason(ctx, err) // package client returns a failed dial as a connection
	}
	return false, errMoved
}

// reason adds to an error that the time is over.
func (s *session) reason(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	return err
}

// hello is what a server says of itself.
type hello struct {
	protocol int64
	role     string
}

// greeting asks for it. Every user may do that.
func greeting(ctx context.Context, c interface {
	Process(ctx context.Context, cmd redis.Cmder) error
}) (hello, error) {
	cmd := redis.NewCmd(ctx, "hello")
	if err := c.Process(ctx, cmd); err != nil {
		return hello{}, err
	}
	var h hello
	take := func(name, value any) {
		switch name {
		case "proto":
			h.protocol, _ = value.(int64)
		case "role":
			h.role, _ = value.(string)
		}
	}
	switch reply := cmd.Val().(type) {
	case map[any]any: // RESP3
		for name, value := range reply {
			take(name, value)
		}
	case []any: // RESP2
		for i := 0; i+1 < len(reply); i += 2 {
			take(reply[i], reply[i+1])
		}
	}
	return h, nil
}

// isRefusal reports whether the server says that it will not do this, and is not about to change its mind.
func isRefusal(err error) bool {
	if !redisx.IsReply(err) || redisx.IsTransient(err) {
		return false
	}
	for _, passing := range [...]string{"MOVED", "ASK", "NOAUTH", "WRONGPASS"} {
		if redis.HasErrorPrefix(err, passing) {
			return false
		}
	}
	return true
}
