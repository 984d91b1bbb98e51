package embedded

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"github.com/compozy/cache/internal/glob"
)

// pubsub replaces the publish/subscribe commands of miniredis, whose own differ
// from Redis where this module would notice:
//
//   - of several matching patterns of a connection only one gets the message;
//   - channel and pattern messages come from different goroutines, so a
//     connection does not see them in the order in which they were published;
//   - one subscriber that does not read stops the whole server;
//   - a pattern like "[z-a]" ends the process with a panic.
//
// Here the publisher writes to all subscribers itself, one after the other,
// while it holds the lock that makes Redis commands atomic. That gives one order
// for all, and keeps the messages of a script together.
type pubsub struct {
	redis   *miniredis.Miniredis // its lock is taken before mu
	backend *server.Server
	ahead   time.Duration // by which TIME is ahead; guarded by the lock of redis

	mu    sync.Mutex // guards peers and the sets inside
	peers map[*server.Peer]*peer
}

// peer is a client's connection.
type peer struct {
	inTx     bool // between MULTI and EXEC; only its own goroutine uses it
	channels map[string]struct{}
	patterns map[string]struct{}
}

func (p *peer) count() int { return len(p.channels) + len(p.patterns) }

func newPubsub() *pubsub { return &pubsub{peers: map[*server.Peer]*peer{}} }

// attach makes ps answer its commands instead of backend.
func (ps *pubsub) attach(redis *miniredis.Miniredis, backend *server.Server) {
	ps.redis, ps.backend = redis, backend
	backend.SetPreHook(ps.handle)
}

// handle sees every command before miniredis does, including those that a
// script calls. It returns true when it has answered.
func (ps *pubsub) handle(c *server.Peer, cmd string, args ...string) bool {
	p := ps.lookup(c)
	if p == nil {
		// A command inside a script. The command that runs the script holds the lock.
		if cmd == "PUBLISH" && len(args) == 2 {
			c.WriteInt(ps.publish(args[0], args[1]))
			return true
		}
		if cmd == "PUBSUB" {
			return ps.inspect(c, args)
		}
		if cmd == "TIME" && len(args) == 0 && ps.ahead != 0 {
			writeTime(c, ps.ahead)
			return true
		}
		if ms, ok := precise(cmd); ok && len(args) == 1 {
			return ps.secondsInScript(c, ms, args[0])
		}
		return false // miniredis refuses subscriptions there
	}

	subscribed := ps.subscribed(p)
	switch cmd {
	case "MULTI":
		p.inTx = !subscribed
	case "EXEC", "DISCARD":
		p.inTx = false
	case "PUBLISH":
		if len(args) == 2 && !subscribed {
			ps.publishFor(c, p, args[0], args[1])
			return true
		}
	case "SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE":
		ps.change(c, p, cmd, args)
		return true
	case "PING":
		if subscribed && len(args) <= 1 {
			pong(c, args)
			return true
		}
	case "QUIT", "RESET":
		return false
	case "PUBSUB":
		if !p.inTx && !subscribed {
			return ps.inspect(c, args)
		}
	}
	if subscribed {
		// Redis allows more on a RESP3 connection. Here a message could then get
		// into the middle of a reply.
		c.WriteError("ERR Can't execute '" + strings.ToLower(cmd) +
			"': only (P)SUBSCRIBE / (P)UNSUBSCRIBE / PING / QUIT are allowed in this context")
		return true
	}
	if ms, ok := precise(cmd); ok && len(args) == 1 {
		ps.seconds(c, ms, args[0])
		return true
	}
	if cmd == "TIME" && len(args) == 0 {
		return ps.time(c, p)
	}
	return false
}

// lookup returns the state of a connection, or nil if c stands for the inside of
// a script: scripts get a peer of their own that comes with a context, while
// the context of a connection is made by its first command.
func (ps *pubsub) lookup(c *server.Peer) *peer {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.peers[c]
	if p == nil && c.Ctx == nil {
		p = &peer{channels: map[string]struct{}{}, patterns: map[string]struct{}{}}
		ps.peers[c] = p
		c.OnDisconnect(func() {
			ps.mu.Lock()
			defer ps.mu.Unlock()
			delete(ps.peers, c)
		})
	}
	return p
}

func (ps *pubsub) subscribed(p *peer) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.count() > 0
}

// publishFor answers the PUBLISH of a connection.
func (ps *pubsub) publishFor(c *server.Peer, p *peer, channel, message string) {
	if p.inTx {
		// miniredis has to queue it. What it queues is a script, because that
		// comes back here when it is executed.
		ps.backend.Dispatch(c, []string{"EVAL", "return redis.call('PUBLISH', ARGV[1], ARGV[2])", "0", channel, message})
		return
	}
	ps.redis.Lock()
	receivers := ps.publish(channel, message)
	ps.redis.Unlock()
	c.WriteInt(receivers)
}

// publish sends the message to all that match and returns how often. The lock
// of miniredis is held.
func (ps *pubsub) publish(channel, message string) (receivers int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for c, p := range ps.peers {
		if p.count() == 0 {
			continue
		}
		var pushes [][]string
		if _, ok := p.channels[channel]; ok {
			pushes = append(pushes, []string{"message", channel, message})
		}
		for pattern := range p.patterns {
			if glob.Match(pattern, channel) {
				pushes = append(pushes, []string{"pmessage", pattern, channel, message})
			}
		}
		if len(pushes) == 0 {
			continue
		}
		receivers += len(pushes)
		c.Block(func(w *server.Writer) {
			for _, push := range pushes {
				w.WritePushLen(len(push))
				for _, field := range push {
					w.WriteBulk(field)
				}
			}
			w.Flush()
		})
	}
	return receivers
}

// change answers the four commands that change what a connection listens to.
func (ps *pubsub) change(c *server.Peer, p *peer, cmd string, names []string) {
	kind := strings.ToLower(cmd)
	if p.inTx {
		c.WriteError("ERR embedded server: '" + kind + "' is not supported in a transaction")
		return
	}
	add := !strings.Contains(cmd, "UNSUB")
	if add && len(names) == 0 {
		c.WriteError("ERR wrong number of arguments for '" + kind + "' command")
		return
	}
	// The lock of miniredis, so that a script's messages come all or not at all.
	ps.redis.Lock()
	defer ps.redis.Unlock()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	set := p.channels
	if cmd[0] == 'P' {
		set = p.patterns
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(set))
	}
	c.Block(func(w *server.Writer) {
		for _, name := range names {
			if add {
				set[name] = struct{}{}
			} else {
				delete(set, name)
			}
			w.WritePushLen(3)
			w.WriteBulk(kind)
			w.WriteBulk(name)
			w.WriteInt(p.count())
		}
		if len(names) == 0 { // to unsubscribe from nothing has an answer, too
			w.WritePushLen(3)
			w.WriteBulk(kind)
			w.WriteNull()
			w.WriteInt(p.count())
		}
	})
}

// pong answers a PING on a connection that is subscribed.
func pong(c *server.Peer, args []string) {
	payload := strings.Join(args, "")
	switch {
	case !c.Resp3:
		c.WriteStrings([]string{"pong", payload})
	case payload == "":
		c.WriteInline("PONG")
	default:
		c.WriteBulk(payload)
	}
}

// inspect answers PUBSUB CHANNELS, NUMSUB and NUMPAT. It leaves the answer to
// anything else, which is an error, to miniredis.
func (ps *pubsub) inspect(c *server.Peer, args []string) bool {
	if len(args) == 0 {
		return false
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	subscribers := map[string]int{}
	patterns := map[string]struct{}{}
	for _, p := range ps.peers {
		for channel := range p.channels {
			subscribers[channel]++
		}
		maps.Copy(patterns, p.patterns)
	}
	switch sub := strings.ToUpper(args[0]); {
	case sub == "CHANNELS" && len(args) <= 2:
		var names []string
		for _, name := range slices.Sorted(maps.Keys(subscribers)) {
			if len(args) == 1 || glob.Match(args[1], name) {
				names = append(names, name)
			}
		}
		c.WriteStrings(names)
	case sub == "NUMSUB":
		c.Block(func(w *server.Writer) {
			w.WriteLen(2 * len(args[1:]))
			for _, name := range args[1:] {
				w.WriteBulk(name)
				w.WriteInt(subscribers[name])
			}
		})
	case sub == "NUMPAT" && len(args) == 1:
		c.WriteInt(len(patterns))
	default:
		return false
	}
	return true
}
