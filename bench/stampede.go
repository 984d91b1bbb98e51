package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/compozy/cache/internal/redistest"
)

const (
	stampedeProcesses = 4
	stampedeCallers   = 250 // in each process
	stampedeLoad      = 100 * time.Millisecond
	// stampedeLimit is for how long callers wait.
	stampedeLimit = 20 * stampedeLoad
)

// herd is the processes of one contender, on a server of their own.
type herd struct {
	name      string
	server    *redistest.Server
	processes []*process
}

// stampedes is what a contender did when all callers missed a key, in each round.
type stampedes struct {
	name string
	// nanos is from before the processes learned of it until all callers have returned. The processor time of all
	// processes is busy, and served that of the server; it grows by what counting commands takes.
	nanos, busy, served []float64
	loads, commands     []float64
	gaveUp              []float64
	names               string // of the commands, in the round with most
}

// measureStampede has processes miss a key at the same time, whose loader succeeds or fails.
func measureStampede(ctx context.Context, s *scope, e effort) (report, error) {
	names := append([]string{ourStampeder}, peerStampeders()...)
	herds := make([]*herd, len(names))
	for i, name := range names {
		var err error
		if herds[i], err = newHerd(ctx, s, name); err != nil {
			return report{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	var all report
	for _, test := range []struct {
		what string
		fail bool
	}{
		{"4 processes × 250 callers miss one key", false},
		{"the same, and the load fails", true},
	} {
		results := make([]*stampedes, len(herds))
		for i, h := range herds {
			results[i] = &stampedes{name: h.name}
		}
		for round := range (e.rounds + 7) / 8 {
			for turn := range herds {
				i := (round + turn) % len(herds)
				key := fmt.Sprintf("stampede:%t:%d", test.fail, round)
				if err := herds[i].miss(ctx, s, results[i], key, test.fail); err != nil {
					return report{}, fmt.Errorf("%s: %w", herds[i].name, err)
				}
			}
		}
		all.rows = append(all.rows, stampedeRows(test.what, results)...)
	}
	return all, nil
}

// newHerd starts processes, and has them connect, subscribe and load scripts.
func newHerd(ctx context.Context, s *scope, name string) (*herd, error) {
	h := &herd{name: name, server: redistest.Start(s)}
	for range stampedeProcesses {
		p, err := startProcess(ctx, s, h.server.Addr(), name)
		if err != nil {
			return nil, err
		}
		h.processes = append(h.processes, p)
	}
	for _, fail := range []bool{false, true} {
		_, err := together(h.processes, stampedeTask{
			Key: fmt.Sprintf("warm:%t", fail), Callers: 8, Delay: stampedeLoad / 10, Limit: stampedeLimit, Fail: fail,
		})
		if err != nil {
			return nil, err
		}
	}
	return h, nil
}

// miss has all callers miss a key, and adds what came of it.
func (h *herd) miss(ctx context.Context, s *scope, to *stampedes, key string, fail bool) error {
	return run(func(inner *scope) error {
		client := newPlain(inner, h.server)
		if err := client.Ping(ctx).Err(); err != nil {
			return err
		}
		traffic, err := startMonitor(inner, h.server)
		if err != nil {
			return err
		}
		served, begun := h.server.CPU(s), time.Now()
		answer, err := together(h.processes, stampedeTask{
			Key: key, Callers: stampedeCallers, Delay: stampedeLoad, Limit: stampedeLimit, Fail: fail,
		})
		elapsed := time.Since(begun)
		if err == nil {
			err = answer.check(fail)
		}
		if err != nil {
			return err
		}
		served = h.server.CPU(s) - served
		commands, err := traffic.stop(ctx, client)
		if err != nil {
			return err
		}
		to.add(elapsed, served, answer, commands)
		return nil
	})
}

// check makes an error of callers that should have got something else.
func (a stampedeAnswer) check(fail bool) error {
	const callers = stampedeProcesses * stampedeCallers
	switch {
	case !fail && a.Values != callers:
		return fmt.Errorf("%d of %d callers have the value, %d gave up: %s", a.Values, callers, a.GaveUp, a.Err)
	case fail && a.Values > 0:
		return errors.New("there is a value, although the loader fails")
	}
	return nil
}

// add notes one round.
func (r *stampedes) add(elapsed, served time.Duration, a stampedeAnswer, commands map[string]int) {
	commands = maps.Clone(commands)
	delete(commands, "info") // which asks for the processor time
	total, names := spell(commands, 1)
	if len(r.commands) == 0 || total > slices.Max(r.commands) {
		r.names = names
	}
	r.nanos = append(r.nanos, float64(elapsed))
	r.busy = append(r.busy, float64(a.Busy))
	r.served = append(r.served, float64(served))
	r.loads = append(r.loads, float64(a.Loads))
	r.commands = append(r.commands, total)
	r.gaveUp = append(r.gaveUp, float64(a.GaveUp))
}

// stampedeRows compares the first contender with its goals and with the others. Of loads and commands the worst round counts.
func stampedeRows(what string, results []*stampedes) []row {
	ours := results[0]
	times := make([]float64, len(ours.nanos))
	for i, nanos := range ours.nanos {
		times[i] = nanos / float64(stampedeLoad)
	}
	rows := []row{
		{
			what: what + ": loads", against: "–", goal: atMost(1), value: count(slices.Max(ours.loads)), unit: "loads",
		},
		{
			what: what + ": commands", against: "–", goal: atMost(2*stampedeProcesses + 1),
			value: count(slices.Max(ours.commands)), unit: "commands", detail: ours.names,
		},
		{
			what: what + ": until all are done", against: "the loader's 100 ms", goal: atMost(1.2), value: spreadOf(times), unit: "×",
			detail: ours.text(),
		},
	}
	for _, peer := range results[1:] {
		rows = append(rows, row{
			what: what + ": until all are done", against: peer.name, goal: noGoal(), value: ratio(ours.nanos, peer.nanos),
			unit: "×", detail: "theirs: " + peer.text(),
		})
	}
	return rows
}

// text says what one round took.
func (r *stampedes) text() string {
	text := fmt.Sprintf("%s, %s loads, %s commands, CPU %s + server %s", duration(time.Duration(median(r.nanos))),
		number(median(r.loads)), number(median(r.commands)), duration(time.Duration(median(r.busy))),
		duration(time.Duration(median(r.served))))
	if gaveUp := median(r.gaveUp); gaveUp > 0 {
		text += fmt.Sprintf(", %s callers gave up", number(gaveUp))
	}
	return text
}
