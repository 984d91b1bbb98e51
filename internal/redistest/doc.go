// Package redistest runs real redis-server processes for tests: one server, N
// independent masters, a master with a replica and three sentinels, or a
// cluster.
//
//	func TestSomething(t *testing.T) {
//		server := redistest.Start(t)
//		client := server.Client(t)
//		...
//		server.Stop() // from here on Redis hangs, but its port stays open
//	}
//
// # Lifetime
//
// Every server listens on a free port of the loopback interface, works in a
// temporary directory of its own and is killed when the test ends, even if it
// is stopped by SIGSTOP at that time. On Linux it is killed as well when the
// test process dies without running its cleanups (a panic, a test timeout, a
// SIGKILL). While a server runs the harness keeps one goroutine and one thread
// for it; both end with the server, so goleak in TestMain stays quiet.
//
// # Failures
//
// Starting never skips a test: it fails if redis-server is missing. What a
// server wrote is logged when it does not start, and at the end of a failed
// test. The harness needs only the redis-server binary, version 7.0 or newer,
// and no redis-cli: the one that the environment variable REDISTEST_SERVER names
// by its absolute path, or the first in PATH.
//
// # Outside of tests
//
// All functions take a [TB], the few methods they use of [testing.TB], so that
// a program such as the benchmarks can start servers too.
package redistest
