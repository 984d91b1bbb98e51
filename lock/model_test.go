package lock

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The model is the token algorithm of fencing.go on simulated masters: what acquire.lua, raise.lua and release.lua do,
// with requests and replies that get lost, come late and in any order, keys that expire at any moment, and masters that
// restart without their data.
//
// Two properties are asserted. With clocks that can be trusted, a client returns a lock only while its keys have not
// expired; then each token that is returned is larger than all that were returned before. Without that check, when keys
// expire under their holders, no two tokens are equal still. A master that has forgotten its data stays away for a TTL,
// as Redlock demands.

// writeBack is what is done when the granting masters gave different tokens.
type writeBack int

const (
	conditional   writeBack = iota // raise the fence where our value still holds the lock: what we do
	unconditional                  // raise it everywhere
	none                           // return the largest token and hope
)

// modelNode is a master.
type modelNode struct {
	held  int // client, 0 for nobody
	fence int64
	clock int64 // what a fence starts from
}

// modelMessage is a request under way to a node, or a reply under way from it.
type modelMessage struct {
	node, client, attempt int
	kind                  string // acquire, raise, release
	reply                 bool
	ok                    bool
	token                 int64
}

// modelClient is somebody who tries to acquire.
type modelClient struct {
	attempt  int
	phase    string // "", acquiring, raising, holding
	granted  map[int]int64
	refused  int
	token    int64
	accepted map[int]bool
}

type model struct {
	rng     *rand.Rand
	variant writeBack
	nodes   []modelNode
	clients []modelClient
	network []modelMessage
	// wipes says whether masters may forget everything; their clocks go on.
	wipes bool
	// clocks says whether a client notices that its keys have expired.
	clocks bool
	now    int64

	returned   int64 // the largest token that a client has returned
	seen       map[int64]bool
	grants     int
	violations int
	duplicates int
}

func newModel(seed uint64, nodes int, variant writeBack, wipes, clocks bool) *model {
	m := &model{
		rng: rand.New(rand.NewPCG(seed, 1)), variant: variant, nodes: make([]modelNode, nodes),
		clients: make([]modelClient, 4), wipes: wipes, clocks: clocks, seen: map[int64]bool{},
	}
	for i := range m.nodes {
		m.nodes[i].clock = int64(m.rng.IntN(50)) // the clocks of masters differ
	}
	return m
}

func (m *model) quorum() int { return len(m.nodes)/2 + 1 }

func (m *model) send(msg modelMessage) {
	if m.rng.IntN(20) > 0 { // or it is lost
		m.network = append(m.network, msg)
	}
}

// step lets one thing happen.
func (m *model) step() {
	m.now++
	switch pick := m.rng.IntN(1000); {
	case pick < 930 && len(m.network) > 0:
		i := m.rng.IntN(len(m.network)) // any order
		msg := m.network[i]
		m.network[i] = m.network[len(m.network)-1]
		m.network = m.network[:len(m.network)-1]
		if msg.reply {
			m.receive(msg)
		} else {
			m.serve(msg)
		}
	case pick < 980:
		m.begin(1 + m.rng.IntN(len(m.clients)))
	case pick < 998:
		m.nodes[m.rng.IntN(len(m.nodes))].held = 0 // expired
	case m.wipes:
		m.wipe(m.rng.IntN(len(m.nodes)))
	}
}

// wipe restarts a master without its data. By the time it is back all locks of before have expired.
func (m *model) wipe(node int) {
	m.nodes[node].fence = 0
	for i := range m.nodes {
		m.nodes[i].held = 0
	}
	for i := range m.clients {
		m.clients[i].attempt++
		m.clients[i].phase = ""
	}
}

// begin starts an attempt of a client, or ends the one that is under way: its lock is released.
func (m *model) begin(id int) {
	m.giveBack(id)
	c := &m.clients[id-1]
	c.attempt++
	*c = modelClient{attempt: c.attempt, phase: "acquiring", granted: map[int]int64{}, accepted: map[int]bool{}}
	for n := range m.nodes {
		m.send(modelMessage{node: n, client: id, attempt: c.attempt, kind: "acquire"})
	}
}

// giveBack is a client releasing what it has, or may have.
func (m *model) giveBack(id int) {
	c := &m.clients[id-1]
	if c.phase == "" {
		return
	}
	c.phase = ""
	for n := range m.nodes {
		m.send(modelMessage{node: n, client: id, attempt: c.attempt, kind: "release"})
	}
}

// value is what a client stores in one attempt.
func value(msg modelMessage) int { return msg.client + 100*msg.attempt }

// serve is a node executing a script.
func (m *model) serve(msg modelMessage) {
	n := &m.nodes[msg.node]
	reply := msg
	reply.reply = true
	switch msg.kind {
	case "acquire":
		switch n.held {
		case 0:
			n.held = value(msg)
			if n.fence++; n.fence == 1 {
				// The clock moves on faster than locks are granted, by far.
				n.fence = n.clock + 1000*m.now
			}
			reply.ok, reply.token = true, n.fence
		case value(msg): // sent again
			reply.ok, reply.token = true, n.fence
		}
	case "raise":
		if m.variant == unconditional || n.held == value(msg) {
			n.fence = max(n.fence, msg.token)
			reply.ok = true
		}
	case "release":
		if n.held == value(msg) {
			n.held = 0
		}
		return
	}
	m.send(reply)
}

// receive is a client getting a reply.
func (m *model) receive(msg modelMessage) {
	c := &m.clients[msg.client-1]
	if msg.attempt != c.attempt {
		return // late
	}
	switch {
	case msg.kind == "acquire" && c.phase == "acquiring":
		if !msg.ok {
			if c.refused++; c.refused > len(m.nodes)-m.quorum() {
				m.giveBack(msg.client)
			}
			return
		}
		c.granted[msg.node] = msg.token
		if len(c.granted) < m.quorum() {
			return
		}
		for _, token := range c.granted {
			c.token = max(c.token, token)
		}
		if m.variant == none {
			m.win(msg, c)
			return
		}
		c.phase = "raising"
		for node := range m.nodes { // in order, so that a seed tells the whole history
			token, ok := c.granted[node]
			if !ok {
				continue
			}
			if token == c.token {
				c.accepted[node] = true
			} else {
				m.send(modelMessage{node: node, client: msg.client, attempt: c.attempt, kind: "raise", token: c.token})
			}
		}
		m.settle(msg, c)
	case msg.kind == "raise" && c.phase == "raising" && msg.ok:
		c.accepted[msg.node] = true
		m.settle(msg, c)
	}
}

func (m *model) settle(msg modelMessage, c *modelClient) {
	if len(c.accepted) >= m.quorum() {
		m.win(msg, c)
	}
}

// win is a client returning from Acquire.
func (m *model) win(msg modelMessage, c *modelClient) {
	c.phase = "holding"
	for n := range c.granted {
		if m.clocks && m.nodes[n].held != value(msg) {
			return // too late
		}
	}
	m.grants++
	if m.seen[c.token] {
		m.duplicates++
	}
	m.seen[c.token] = true
	if c.token <= m.returned {
		m.violations++
	}
	m.returned = max(m.returned, c.token)
}

// simulate runs many histories and adds up what was found.
func simulate(histories, nodes int, variant writeBack, wipes, clocks bool) (grants, violations, duplicates int) {
	for seed := range uint64(histories) {
		m := newModel(seed, nodes, variant, wipes, clocks)
		for range 3000 * nodes {
			m.step()
		}
		grants += m.grants
		violations += m.violations
		duplicates += m.duplicates
	}
	return grants, violations, duplicates
}

func TestModelOfTokensOnMasters(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3, 5} {
		for _, wipes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d nodes, wipes %v", nodes, wipes), func(t *testing.T) {
				t.Parallel()
				grants, violations, duplicates := simulate(200, nodes, conditional, wipes, true)
				t.Logf("%d grants", grants)
				assert.Greater(t, grants, 1000)
				assert.Zero(t, violations, "a later token that is not larger")
				assert.Zero(t, duplicates)
				_, _, duplicates = simulate(200, nodes, conditional, wipes, false)
				assert.Zero(t, duplicates, "two equal tokens though keys expired under their holders")
			})
		}
	}
}

// TestModelCatchesBrokenVariants proves that the model sees what it is there for.
func TestModelCatchesBrokenVariants(t *testing.T) {
	t.Parallel()
	for nodes, histories := range map[int]int{3: 300, 5: 1000} {
		_, violations, _ := simulate(100, nodes, none, false, true)
		assert.NotZero(t, violations, "without writing back, %d nodes", nodes)
		_, _, duplicates := simulate(histories, nodes, unconditional, false, false)
		assert.NotZero(t, duplicates, "writing back unconditionally, %d nodes", nodes)
	}
}
