package embedded_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// do sends a command of several words.
func do(t *testing.T, client *redis.Client, command string) error {
	t.Helper()
	var args []any
	for word := range strings.FieldsSeq(command) {
		args = append(args, word)
	}
	return client.Do(t.Context(), args...).Err()
}

// both returns connections to an embedded server and to a real one.
func both(t *testing.T) (embedded, genuine func() *raw) {
	t.Helper()
	_, server := setup(t)
	reference := redistest.Start(t)
	embedded = func() *raw {
		conn, err := server.Dial(t.Context(), "", "")
		require.NoError(t, err)
		return newRaw(t, conn)
	}
	genuine = func() *raw {
		conn, err := net.Dial("tcp", reference.Addr())
		require.NoError(t, err)
		return newRaw(t, conn)
	}
	return embedded, genuine
}

// ask sends commands, separated by semicolons, and returns the last answer.
func (c *raw) ask(commands string) string {
	c.t.Helper()
	var reply string
	for command := range strings.SplitSeq(commands, ";") {
		c.send(strings.Fields(command)...)
		reply = c.reply()
	}
	return reply
}

// TestMissingCommands asks for all that the package comment calls missing: an error
// here and none in Redis, or the comment is not true.
func TestMissingCommands(t *testing.T) {
	t.Parallel()
	embedded, genuine := both(t)
	for _, commands := range []string{
		"INFO server", "INFO replication", "INFO memory", "INFO persistence", "INFO keyspace", "INFO cpu", "INFO commandstats",
		"ROLE", "CLIENT ID", "CLIENT LIST", "CLIENT INFO", "CLIENT KILL ID 99999", "CLIENT PAUSE 0", "CLIENT TRACKING off",
		"CLIENT NO-EVICT off", "RESET", "MONITOR", "CONFIG GET maxmemory", "SLOWLOG LEN", "LATENCY LATEST", "ACL WHOAMI",
		"FUNCTION LIST", "SSUBSCRIBE c", "SPUBLISH c x", "PUBSUB SHARDCHANNELS",
		"MULTI;SUBSCRIBE c", "MULTI;PSUBSCRIBE c", "HELLO 3;SUBSCRIBE c;GET k", "HELLO",
		"SAVE", "BGSAVE", "LASTSAVE", "REPLICAOF NO ONE", "CONFIG SET maxmemory 0", "CONFIG SET notify-keyspace-events KEA",
		"BITFIELD b GET u8 0", "LCS a b", "SORT l", "SORT_RO l", "SUBSTR k 0 1", "ZDIFF 1 z", "ZINTERCARD 1 z",
		"ZRANGESTORE d z 0 1", "SET s v;OBJECT ENCODING s", "SET s v;OBJECT REFCOUNT s",
	} {
		assert.Equal(t, "error", embedded().ask(commands), commands)
		assert.NotEqual(t, "error", genuine().ask(commands), commands)
	}
}

// TestLenientCommands asks for what the package comment says is accepted here only.
func TestLenientCommands(t *testing.T) {
	t.Parallel()
	embedded, genuine := both(t)
	for _, commands := range []string{
		"SELECT 16", "CLUSTER SLOTS", "SET k v;EXPIRE k 9223372036854775807", "RESTORE k 0 x",
	} {
		assert.NotEqual(t, "error", embedded().ask(commands), commands)
		assert.Equal(t, "error", genuine().ask(commands), commands)
	}
	// 292 years are what a time.Duration can hold.
	const longest = ":9223372037"
	assert.Equal(t, longest, embedded().ask("SET far v;EXPIREAT far 99999999999;TTL far"))
	assert.NotEqual(t, longest, genuine().ask("SET far v;EXPIREAT far 99999999999;TTL far"))
}

// What this server has must not be called missing.
func TestPresentCommands(t *testing.T) {
	t.Parallel()
	embedded, genuine := both(t)
	for _, commands := range []string{
		"INFO clients", "INFO stats", "CLIENT SETNAME x", "CLIENT SETNAME x;CLIENT GETNAME", "TIME", "WAIT 0 0", "HELLO 3",
		"SCRIPT FLUSH", "SCRIPT EXISTS a", "OBJECT IDLETIME none", "COMMAND", "SWAPDB 0 1", "MOVE k 1", "XADD s * a b", "DBSIZE",
	} {
		assert.NotEqual(t, "error", embedded().ask(commands), commands)
		assert.NotEqual(t, "error", genuine().ask(commands), commands)
	}
}

// A client that goes away while it is blocked is here counted until it would have been
// served. It takes nothing with it.
func TestBlockedClientThatIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, server := setup(t)
		dial := func() *raw {
			conn, err := server.Dial(t.Context(), "", "")
			require.NoError(t, err)
			return newRaw(t, conn)
		}
		gone, probe := dial(), dial()
		gone.send("BLPOP", "q", "0")
		synctest.Wait()
		require.NoError(t, gone.conn.Close())
		synctest.Wait()
		assert.Contains(t, probe.ask("INFO clients"), "connected_clients:2")
		assert.Equal(t, ":1", probe.ask("RPUSH q v"))
		synctest.Wait()
		assert.Contains(t, probe.ask("INFO clients"), "connected_clients:1")
		assert.Equal(t, ":1", probe.ask("LLEN q"))
	})
	_, genuine := both(t)
	gone, probe := genuine(), genuine()
	gone.send("BLPOP", "q", "0")
	require.Eventually(t, func() bool {
		return strings.Contains(probe.ask("INFO clients"), `blocked_clients:1`)
	}, 20*time.Second, time.Millisecond)
	require.NoError(t, gone.conn.Close())
	require.Eventually(t, func() bool {
		return strings.Contains(probe.ask("INFO clients"), `connected_clients:1`)
	}, 20*time.Second, time.Millisecond, "without anything that wakes it")
}

// Clients that are blocked are all served, but only Redis promises to do so in the order of
// their coming. The order here depends on the scheduler, and may be the same.
func TestBlockedClientsAreAllServed(t *testing.T) {
	t.Parallel()
	const clients = 20
	inOrder := make([]string, clients)
	for n := range inOrder {
		inOrder[n] = fmt.Sprintf(`*["q" "%d"]`, n)
	}
	// serve blocks the clients one after the other and returns what each gets.
	serve := func(t *testing.T, dial func() *raw, settled func(blocked int)) []string {
		t.Helper()
		waiting := make([]*raw, clients)
		for n := range waiting {
			waiting[n] = dial()
			waiting[n].send("BLPOP", "q", "0")
			settled(n + 1)
		}
		push := dial()
		for n := range waiting {
			push.ask(fmt.Sprint("RPUSH q ", n))
			settled(clients - n - 1)
		}
		got := make([]string, clients)
		for n, c := range waiting {
			got[n] = c.reply()
		}
		return got
	}
	synctest.Test(t, func(t *testing.T) {
		_, server := setup(t)
		got := serve(t, func() *raw {
			conn, err := server.Dial(t.Context(), "", "")
			require.NoError(t, err)
			return newRaw(t, conn)
		}, func(int) { synctest.Wait() })
		assert.ElementsMatch(t, inOrder, got)
	})
	_, genuine := both(t)
	probe := genuine()
	assert.Equal(t, inOrder, serve(t, genuine, func(blocked int) {
		require.Eventually(t, func() bool {
			return strings.Contains(probe.ask("INFO clients"), fmt.Sprintf(`blocked_clients:%d\r`, blocked))
		}, 20*time.Second, time.Millisecond)
	}))
}
