package main

import (
	"context"
	"fmt"
	"time"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
)

// linkOneWay makes a link of 1 ms, as between two hosts of one data centre.
const linkOneWay = 500 * time.Microsecond

// operation is what one caller does at a time, in several ways.
type operation struct {
	name string
	// contenders returns ours, the peer that the goals are about, and further peers. Their clients connect to addr, which
	// is the server's address or that of a proxy before it.
	contenders func(ctx context.Context, s *scope, server *redistest.Server, addr string) ([]contender, error)
	goals      costGoals
	// uneven is for what varies more than others from turn to turn on loopback, and gets three times as many.
	uneven bool
}

// costGoals is what the design promises about an operation, as ratios but for the round trips.
type costGoals struct {
	trips, link, serverCPU, clientCPU, loopback goal
}

// cost is one line of the second table: what an operation takes, in each cell ours and the peer's.
type cost struct {
	operation, peer                                          string
	trips, link, serverCPU, clientCPU, allocations, loopback string
}

// operations are what most programs do most.
func operations() []operation {
	return []operation{
		{name: "acquire + release", contenders: lockContenders, goals: costGoals{
			trips: atMost(2), link: atMost(1.05), serverCPU: noGoal(), clientCPU: atMost(1.5), loopback: atMost(1.25),
		}},
		{name: "refused try", contenders: refusedContenders, goals: costGoals{
			trips: atMost(1), link: atMost(1.05), serverCPU: noGoal(), clientCPU: noGoal(), loopback: atMost(1.4),
		}},
		{name: "publish with history", contenders: publishContenders, goals: costGoals{
			trips: atMost(1), link: atMost(1.05), serverCPU: atMost(1.15), clientCPU: noGoal(), loopback: atMost(1.25),
		}},
		{name: "publish → receive", contenders: latencyContenders, uneven: true, goals: costGoals{
			trips: noGoal(), link: atMost(1.05), serverCPU: noGoal(), clientCPU: noGoal(), loopback: atMost(1.4),
		}},
	}
}

// measure lets the contenders of an operation race on loopback and over a link.
func (o operation) measure(ctx context.Context, s *scope, e effort) (report, error) {
	server := redistest.Start(s)
	local, err := o.contenders(ctx, s, server, server.Addr())
	if err != nil {
		return report{}, err
	}
	many := e
	if o.uneven {
		many.rounds *= 3
	}
	near, err := many.runMetered(ctx, 1, meters{served: func() time.Duration { return server.CPU(s) }}, local...)
	if err != nil {
		return report{}, fmt.Errorf("on loopback: %w", err)
	}
	allocated := make([]float64, len(local))
	for i, c := range local {
		allocated[i] = allocations(ctx, c.op)
	}
	far, err := o.overLink(ctx, s, e)
	if err != nil {
		return report{}, fmt.Errorf("over a link: %w", err)
	}
	return o.compare(near, far, allocated), nil
}

// overLink races through a proxy that delays, on a server of its own: what contenders do in the background on the other
// one is not counted here.
func (o operation) overLink(ctx context.Context, s *scope, e effort) (*race, error) {
	server := redistest.Start(s)
	proxy := newLink(s, server)
	contenders, err := o.contenders(ctx, s, server, proxy.Addr())
	if err != nil {
		return nil, err
	}
	e.turn *= 2 // an operation takes several milliseconds here
	return e.runMetered(ctx, 1, meters{requests: proxy.Requests}, contenders...)
}

// newLink returns a proxy that makes a link of 1 ms. What connects through it is delayed from the start.
func newLink(s *scope, server *redistest.Server) *faultproxy.Proxy {
	proxy := faultproxy.New(s, server.Addr())
	proxy.SetLatency(linkOneWay)
	return proxy
}

// compare makes rows of what has a goal, and one line that has everything.
func (o operation) compare(near, far *race, allocated []float64) report {
	peer := near.names[1]
	line := cost{
		operation: o.name, peer: peer,
		trips:       fmt.Sprintf("%s; %s", number(median(far.requests[0])), number(median(far.requests[1]))),
		link:        withRatio(far.nanos),
		serverCPU:   withRatio(near.served),
		clientCPU:   withRatio(near.busy),
		allocations: fmt.Sprintf("%s; %s", number(allocated[0]), number(allocated[1])),
		loopback:    withRatio(near.nanos),
	}
	rows := []row{
		{
			what: o.name + ": round trips", against: peer,
			goal: o.goals.trips, value: spreadOf(far.requests[0]), unit: "per op", detail: line.trips,
		},
		{
			what: o.name + ": time over a link of 1 ms", against: peer,
			goal: o.goals.link, value: far.times(1), unit: "×", detail: far.both(1),
		},
		{
			what: o.name + ": server CPU", against: peer,
			goal: o.goals.serverCPU, value: ratio(near.served[0], near.served[1]), unit: "×", detail: pair(near.served),
		},
		{
			what: o.name + ": client CPU", against: peer,
			goal: o.goals.clientCPU, value: near.work(1), unit: "×", detail: pair(near.busy),
		},
		{
			what: o.name + ": time on loopback", against: peer,
			goal: o.goals.loopback, value: near.times(1), unit: "×", detail: near.both(1),
		},
	}
	var promised []row
	for _, r := range rows {
		if !r.goal.none {
			promised = append(promised, r)
		}
	}
	for i := 2; i < len(near.names); i++ {
		promised = append(promised, row{
			what: o.name + ": time over a link of 1 ms", against: near.names[i],
			goal: noGoal(), value: far.times(i), unit: "×", detail: far.both(i),
		}, row{
			what: o.name + ": time on loopback", against: near.names[i],
			goal: noGoal(), value: near.times(i), unit: "×", detail: near.both(i),
		})
	}
	return report{rows: promised, costs: []cost{line}}
}

// pair returns what one operation took of the first two contenders.
func pair(samples [][]float64) string {
	return duration(time.Duration(median(samples[0]))) + "; " + duration(time.Duration(median(samples[1])))
}

// withRatio is pair, and the median of the ratios within a round.
func withRatio(samples [][]float64) string {
	return fmt.Sprintf("%s (%s ×)", pair(samples), number(ratio(samples[0], samples[1]).median))
}

// measureLink measures the link itself.
func measureLink(ctx context.Context, s *scope, e effort) (report, error) {
	client := newPlainAt(s, newLink(s, redistest.Start(s)).Addr())
	result, err := e.runRace(ctx, 1, contender{"PING", func(ctx context.Context, _ int) error { return client.Ping(ctx).Err() }})
	if err != nil {
		return report{}, err
	}
	millis := make([]float64, len(result.nanos[0]))
	for i, nanos := range result.nanos[0] {
		millis[i] = nanos / float64(time.Millisecond)
	}
	return report{rows: []row{{
		what: "PING over the link of 1 ms", against: "–", goal: noGoal(), value: spreadOf(millis), unit: "ms",
	}}}, nil
}
