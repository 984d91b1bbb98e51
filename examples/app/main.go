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
// workflow.go is the state machine, store.go how its states are kept in Redis, ledger.go and todo.go what else is there,
// worker.go who does the work, watcher.go, books.go and board.go what is seen of it, audit.go and report.go how it ends,
// server.go the page. wiring.go puts it together.
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
	server, err := chooseServer(ctx)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	defer func() {
		if err := server.Close(); err != nil {
			fmt.Fprintln(stderr, err)
		}
	}()
	console.Sayf("redis %s", server.About)

	exit := NewExit(options)
	app := fx.New(wiring(options, console, server.Config, exit))
	ended := app.Wait()
	if err := start(ctx, app); err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintln(stderr, "interrupted before everything had started")
			return exitInterrupted
		}
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	<-ended // by the runner, or by a signal
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
