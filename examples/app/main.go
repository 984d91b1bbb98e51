// Command app is a small workflow runner, and shows how the parts of package cache work together.
//
// Workers take workflows under a distributed lock, run their steps, keep the state in Redis and publish what happens;
// a watcher subscribes and keeps the books; a status page shows it all.
//
//	go run ./examples/app                  # an embedded server, until interrupted
//	go run ./examples/app -workflows 20    # that many, a summary, and exit code 1 if one was lost or ran twice
//	REDIS_URL=redis://localhost:6379 go run ./examples/app
//
// Processes on one Redis that have the same -run share the work; when one dies, the others finish what it began:
//
//	go run ./examples/app -workflows 200 -run demo &
//	go run ./examples/app -workflows 200 -run demo
//
// # How a workflow runs once
//
// The lock keeps two workers from working on the same workflow. A lock can be lost, though: a process may stand still
// until the lock has expired and another has it. Therefore every change of a workflow's state is accepted only from
// the holder of the newest fencing token, and only if the state is still in the version that this worker saw (Commit in
// store.go). What was accepted, begun or refused is kept in a ledger, in Redis, from which the verdict is found (ledger.go,
// audit.go).
//
// An event is published after the change that it tells of. A worker that dies in between leaves the event in the
// outbox of the state; whoever takes over publishes it, perhaps for the second time. Events are numbered within their
// workflow, so receivers can tell a repeated one, and a missing one.
//
// # Where to look
//
// Each file shows one thing. What needs the module:
//
//	wiring.go     an Fx application around cache.Module
//	lock.go       a lock, its owner's name and its loss; waiting for one
//	state.go      states with versions, which refuse whoever has lost the lock
//	publish.go    sending events, and reading them back
//	subscribe.go  receiving events, and learning which may be missing
//	presence.go   any value on any channel: which processes are there
//	customers.go  a cache in front of a slow database, which may serve what is stale
//	commands.go   plain commands of Redis beside all that
//	inspect.go    looking at locks from outside
//	rates.go      reading the metrics
//	server.go     a page that is alive: events for browsers, metrics, health
//	redis.go      the embedded server, or the one of the environment
//	outage.go     saying once that Redis is away
//	breakage.go   breaking all that on purpose
//
// The rest is the example's own: workflow.go is the state machine, worker.go does the work, ledger.go and audit.go find the
// verdict, helper.go starts further processes, web/ is the page.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/fx"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	options, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return exitUsage
	}
	console := NewConsole(stdout, options)
	// Fx looks at signals after the start only, which takes its time while Redis is down.
	ctx, ignore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer ignore()
	if options.Helper {
		ctx = leashed(ctx, os.Stdin)
	}
	server, err := chooseServer(ctx)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitCode(err)
	}
	options = options.settle(server.Embedded != nil)
	defer func() {
		if err := server.Close(); err != nil {
			fmt.Fprintln(stderr, err)
		}
	}()
	console.Sayf("redis %s", server.About)

	exit := NewExit(options)
	app := fx.New(wiring(options, console, server, exit))
	ended := app.Wait()
	if err := start(ctx, app); err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintln(stderr, "interrupted before everything had started")
			return exitInterrupted
		}
		fmt.Fprintln(stderr, err)
		return exitCode(err)
	}
	select {
	case <-ended: // by the runner, or by a signal
	case <-ctx.Done(): // by a signal, or by the process that has started this helper
	}
	switch {
	case !options.Batch():
		console.Sayf("stopping")
	case exit.Code() == exitInterrupted:
		console.Sayf("interrupted before the end, so there is no verdict")
	}
	err = stop(app)
	console.EndProgress()
	if err != nil {
		fmt.Fprintln(stderr, err)
		return max(exit.Code(), exitFailed)
	}
	if !options.Batch() {
		console.Sayf("stopped")
	}
	return exit.Code()
}

// start starts the application, unless ctx ends first.
func start(ctx context.Context, app *fx.App) error {
	if err := app.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, app.StartTimeout())
	defer cancel()
	return app.Start(ctx)
}

func stop(app *fx.App) error {
	ctx, cancel := context.WithTimeout(context.Background(), app.StopTimeout())
	defer cancel()
	return app.Stop(ctx)
}
