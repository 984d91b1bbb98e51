// Command bench compares this module with its peers and prints one table of
// ratios, all from the same run on the same machine.
//
//	go run .              # about two minutes
//	go run . -quick       # a few seconds, too noisy to quote
//	go run . -only lock   # rows whose name contains "lock"
//
// It starts redis-server processes of its own and needs nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"github.com/compozy/cache/internal/redistest"
)

// effort is how much time a measurement takes.
type effort struct {
	rounds int
	turn   time.Duration // of one contender in one round
}

// section measures rows that belong together.
type section struct {
	name    string
	measure func(ctx context.Context, s *scope, e effort) ([]row, error)
}

func sections() []section {
	return []section{
		{"client wrapper", measureClient},
		{"lock", measureLock},
		{"lock hand-off", measureHandOff},
		{"held locks", measureHeld},
		{"publish", measurePublish},
		{"notification latency", measureLatency},
		{"notification fan-out", measureFanOut},
	}
}

func main() {
	quick := flag.Bool("quick", false, "a few seconds only: shows that everything runs, numbers are rough")
	only := flag.String("only", "", "measure only sections whose name contains this")
	strict := flag.Bool("strict", false, "exit with status 1 if a goal is missed")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	rows, err := measureAll(ctx, *only, *quick)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if *strict && missed(rows) > 0 {
		os.Exit(1)
	}
}

// measureAll measures the sections one after the other and prints the table.
func measureAll(ctx context.Context, only string, quick bool) ([]row, error) {
	e := effort{rounds: 41, turn: 50 * time.Millisecond}
	if quick {
		e = effort{rounds: 5, turn: 5 * time.Millisecond}
	}
	begun := time.Now()
	var rows []row
	for _, sec := range sections() {
		if !strings.Contains(sec.name, only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", sec.name)
		err := run(func(s *scope) error {
			measured, err := sec.measure(ctx, s, e)
			rows = append(rows, measured...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sec.name, err)
		}
	}
	if len(rows) == 0 {
		return nil, errors.New("no section has such a name")
	}
	if err := printTable(os.Stdout, rows); err != nil {
		return nil, err
	}
	version, err := serverVersion(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Printf("\n%d goals missed. %d cores, Redis %s, %s, %d rounds, %s.\n", missed(rows), runtime.NumCPU(), version,
		runtime.Version(), e.rounds, time.Since(begun).Round(time.Second))
	return rows, nil
}

// serverVersion asks a server of its own.
func serverVersion(ctx context.Context) (version string, err error) {
	err = run(func(s *scope) error {
		client := newPlain(s, redistest.Start(s))
		info, err := client.InfoMap(ctx, "server").Result()
		version = info["Server"]["redis_version"]
		return err
	})
	return version, err
}
