package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// contender is one of several ways to do the same thing.
type contender struct {
	name string
	// op does it once. It is called by many callers at a time, numbered from
	// 0, but never twice at a time by the same one.
	op func(ctx context.Context, caller int) error
}

// race is the times that contenders took in the same rounds. The machine may
// be noisy, so that only times of the same round are compared, and of all
// rounds the one in the middle counts.
type race struct {
	names []string
	// nanos[i][r] is what one operation of contender i took in round r: the
	// duration of its turn divided by the operations of all callers together.
	nanos [][]float64
	// busy[i][r] is the processor time of this process, likewise per operation. What the server used is not in it.
	busy [][]float64
	// served is the processor time of the server, and requests the pieces that were sent to it, likewise; 0 unless metered.
	served, requests [][]float64
}

// meters read what a race counts besides time. Each only ever grows; nil counts nothing.
type meters struct {
	served   func() time.Duration
	requests func() int
}

// reading is what the meters show at one time, or between two times.
type reading struct {
	busy, served time.Duration
	requests     int
}

// read asks this process last, and since asks it first, so that asking the others is in no turn's processor time.
func (m meters) read() reading {
	var now reading
	if m.served != nil {
		now.served = m.served()
	}
	if m.requests != nil {
		now.requests = m.requests()
	}
	now.busy = processorTime()
	return now
}

// since returns what has been used since an earlier reading.
func (m meters) since(before reading) reading {
	busy := processorTime() - before.busy
	now := m.read()
	return reading{busy: busy, served: now.served - before.served, requests: now.requests - before.requests}
}

// runRace lets the contenders take turns, in another order each round. Each
// does as many operations per turn as take it about the effort's time: with
// fewer, a fast one would be measured while it gets going and while it ends.
func (e effort) runRace(ctx context.Context, callers int, contenders ...contender) (*race, error) {
	return e.runMetered(ctx, callers, meters{}, contenders...)
}

// runMetered is runRace with meters.
func (e effort) runMetered(ctx context.Context, callers int, m meters, contenders ...contender) (*race, error) {
	perCaller := make([]int, len(contenders))
	for i, c := range contenders {
		var err error
		if perCaller[i], err = e.calibrate(ctx, callers, c); err != nil {
			return nil, err
		}
	}
	result := newRace(contenders)
	for round := range e.rounds {
		for turn := range contenders {
			i := (round + turn) % len(contenders)
			// Nobody shall pay for what somebody else left behind.
			runtime.GC()
			before := m.read()
			elapsed, err := takeTurn(ctx, callers, perCaller[i], contenders[i])
			if err != nil {
				return nil, err
			}
			result.add(i, float64(callers*perCaller[i]), elapsed, m.since(before))
		}
	}
	return result, nil
}

func newRace(contenders []contender) *race {
	r := &race{}
	for _, c := range contenders {
		r.names = append(r.names, c.name)
	}
	for _, samples := range []*[][]float64{&r.nanos, &r.busy, &r.served, &r.requests} {
		*samples = make([][]float64, len(contenders))
	}
	return r
}

// add notes one turn of a contender.
func (r *race) add(contender int, operations float64, elapsed time.Duration, used reading) {
	for _, sample := range []struct {
		of    [][]float64
		value float64
	}{
		{r.nanos, float64(elapsed)},
		{r.busy, float64(used.busy)},
		{r.served, float64(used.served)},
		{r.requests, float64(used.requests)},
	} {
		sample.of[contender] = append(sample.of[contender], sample.value/operations)
	}
}

// calibrate warms a contender up and returns how many operations each caller
// does per turn. It comes near in steps: the first operations may take several
// times as long as those that follow.
func (e effort) calibrate(ctx context.Context, callers int, c contender) (int, error) {
	const first, growth = 20, 10
	for n := first; ; {
		elapsed, err := takeTurn(ctx, callers, n, c)
		if err != nil {
			return 0, err
		}
		fitting := max(1, int(float64(n)*float64(e.turn)/float64(max(elapsed, 1))))
		if elapsed >= e.turn/2 {
			return fitting, nil
		}
		n = min(fitting, growth*n)
	}
}

// takeTurn lets all callers do n operations each and returns how long it took.
func takeTurn(ctx context.Context, callers, n int, c contender) (time.Duration, error) {
	failures := make([]error, callers)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(callers)
	for caller := range callers {
		done.Go(func() {
			ready.Done()
			<-start
			for range n {
				if err := c.op(ctx, caller); err != nil {
					failures[caller] = fmt.Errorf("%s: %w", c.name, err)
					return
				}
			}
		})
	}
	ready.Wait()
	begun := time.Now()
	close(start)
	done.Wait()
	return time.Since(begun), errors.Join(failures...)
}

// perOp returns what one operation of a contender took: the median of all rounds.
func (r *race) perOp(contender int) time.Duration {
	return time.Duration(median(r.nanos[contender]))
}

// both returns the times of one operation of the first contender and of a peer.
func (r *race) both(peer int) string {
	return duration(r.perOp(0)) + "; " + duration(r.perOp(peer))
}

// duration prints three digits or so.
func duration(d time.Duration) string {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

// times returns how many times as long as a peer the first contender took.
func (r *race) times(peer int) spread { return ratio(r.nanos[0], r.nanos[peer]) }

// work returns how many times the processor time of a peer the first contender used.
func (r *race) work(peer int) spread { return ratio(r.busy[0], r.busy[peer]) }

// throughput returns how many times as many operations as a peer the first
// contender did in the same time.
func (r *race) throughput(peer int) spread { return ratio(r.nanos[peer], r.nanos[0]) }

// ratio compares two contenders round by round.
func ratio(above, below []float64) spread {
	ratios := make([]float64, len(above))
	for round := range ratios {
		ratios[round] = above[round] / below[round]
	}
	return spreadOf(ratios)
}

// processorTime returns how long this process has kept processors busy.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(fatal{err})
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// spread is a median and what lies around it.
type spread struct {
	median, low, high float64 // low and high are the quartiles
}

// spreadOf summarises samples; one sample is its own summary.
func spreadOf(samples []float64) spread {
	return spread{median: median(samples), low: quantile(samples, 0.25), high: quantile(samples, 0.75)}
}

func median(samples []float64) float64 { return quantile(samples, 0.5) }

// quantile returns the sample below which the given share lies, interpolated.
func quantile(samples []float64, share float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	place := share * float64(len(sorted)-1)
	below, rest := math.Modf(place)
	i := int(below)
	if i+1 >= len(sorted) {
		return sorted[i]
	}
	return sorted[i]*(1-rest) + sorted[i+1]*rest
}
