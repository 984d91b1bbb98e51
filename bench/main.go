// Command bench compares this module with its peers and prints two tables, all from the same run on the same machine:
// ratios with their goals, and what an operation costs.
//
//	go run .              # about three minutes
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
	measure func(ctx context.Context, s *scope, e effort) (report, error)
}

// report is what a section found out.
type report struct {
	rows  []row
	costs []cost
}

func sections() []section {
	list := []section{{"link", measureLink}}
	for _, o := range operations() {
		list = append(list, section{"link and cost: " + o.name, o.measure})
	}
	for _, o := range storeOperations() {
		list = append(list, section{"store, link and cost: " + o.name, o.measure})
	}
	return append(list,
		section{"lock, 64 callers", measureLock},
		section{"lock hand-off", measureHandOff},
		section{"held locks", measureHeld},
		section{"publish, 64 callers", measurePublish},
		section{"notification fan-out", measureFanOut},
		section{"idle process", measureIdle},
		section{"client wrapper", measureClient},
		section{"store: near hit", measureNear},
		section{"store: misses", measureMisses},
		section{"store: stampede", measureStampede},
	)
}

func main() {
	if what := os.Getenv(processEnv); what != "" {
		if err := serveProcess(what); err != nil {
			fmt.Fprintln(os.Stderr, "bench: process:", err)
			os.Exit(1)
		}
		return
	}
	quick := flag.Bool("quick", false, "a few seconds only: shows that everything runs, numbers are rough")
	only := flag.String("only", "", "measure only sections whose name contains this")
	strict := flag.Bool("strict", false, "exit with status 1 if a goal is missed")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	all, err := measureAll(ctx, *only, *quick)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if *strict && missed(all.rows) > 0 {
		os.Exit(1)
	}
}

// measureAll measures the sections one after the other and prints the tables.
func measureAll(ctx context.Context, only string, quick bool) (report, error) {
	e := effort{rounds: 41, turn: 50 * time.Millisecond}
	if quick {
		e = effort{rounds: 5, turn: 5 * time.Millisecond}
	}
	begun := time.Now()
	var all report
	for _, sec := range sections() {
		if !strings.Contains(sec.name, only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", sec.name)
		err := run(func(s *scope) error {
			measured, err := sec.measure(ctx, s, e)
			all.rows = append(all.rows, measured.rows...)
			all.costs = append(all.costs, measured.costs...)
			return err
		})
		if err != nil {
			return report{}, fmt.Errorf("%s: %w", sec.name, err)
		}
	}
	if len(all.rows) == 0 {
		return report{}, errors.New("no section has such a name")
	}
	if err := printReport(os.Stdout, all); err != nil {
		return report{}, err
	}
	version, err := serverVersion(ctx)
	if err != nil {
		return report{}, err
	}
	fmt.Printf("\n%d goals missed. %d cores, Redis %s, %s, %d rounds, %s.\n", missed(all.rows), runtime.NumCPU(), version,
		runtime.Version(), e.rounds, time.Since(begun).Round(time.Second))
	return all, nil
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
