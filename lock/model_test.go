package lock

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The model is the token algorithm of a lock on simulated masters: what the scripts that take, raise, repair and release do
// (take.lua with counter.lua on several masters and clock.lua on one, raise.lua, repair.lua, release.lua), with requests
// and replies that get lost, are sent twice, come late and in any order, keys that expire at any moment, and masters that
// restart without their data, or a single one with old data.
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
	counting                       // and one master takes no heed of its clock
)

// modelNode is a master.
type modelNode struct {
	held  int // client, 0 for nobody
	fence int64
	clock int64 // by how much its clock is ahead
	saved int64 // the fence of a snapshot
}

// modelMessage is a request under way to a node, or a reply under way from it.
type modelMessage struct {
	node, client, attempt int
	kind                  string // acquire, raise, repair, release
	reply                 bool
	ok                    bool
	token                 int64
}

// modelClient is somebody who tries to acquire.
type modelClient struct {
	attempt  int
	phase    string // "", acquiring, raising, holding
	granted  map[int]int64
	refused  map[int]bool
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
	if m.rng.IntN(20) == 0 { // sent again, for want of an answer
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
	case pick < 990:
		m.renew(1 + m.rng.IntN(len(m.clients)))
	case pick < 998:
		m.nodes[m.rng.IntN(len(m.nodes))].held = 0 // expired
	case m.wipes:
		m.wipe(m.rng.IntN(len(m.nodes)))
	}
}

// wipe restarts a master without its data, a single one with that of a snapshot. By the time it is back all locks of before
// have expired.
func (m *model) wipe(node int) {
	n := &m.nodes[node]
	if len(m.nodes) == 1 {
		n.fence, n.saved = n.saved, n.fence // also one that is old by now
	} else {
		n.fence = 0
	}
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
	*c = modelClient{
		attempt: c.attempt, phase: "acquiring",
		granted: map[int]int64{}, refused: map[int]bool{}, accepted: map[int]bool{},
	}
	for n := range m.nodes {
		m.send(modelMessage{node: n, client: id, attempt: c.attempt, kind: "acquire"})
	}
}

// renew is a holder that has just been confirmed by a majority, and gives the lock back to a master that has lost it.
func (m *model) renew(id int) {
	c := &m.clients[id-1]
	msg := modelMessage{client: id, attempt: c.attempt, kind: "repair", token: c.token}
	confirmed := 0
	for _, n := range m.nodes {
		if n.held == value(msg) {
			confirmed++
		}
	}
	if c.phase != "holding" || confirmed < m.quorum() {
		return
	}
	for n := range m.nodes {
		if m.nodes[n].held == 0 {
			msg.node = n
			m.send(msg)
		}
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
		if n.held == 0 || n.held == value(msg) { // the latter if it is sent again, which takes another token
			n.held = value(msg)
			n.fence = m.next(n)
			reply.ok, reply.token = true, n.fence
		}
	case "repair":
		if n.held == 0 || n.held == value(msg) {
			n.held, n.fence = value(msg), max(n.fence, msg.token)
		}
		return
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

// next is what next_token returns. The clock moves on faster than locks are granted, by far.
func (m *model) next(n *modelNode) int64 {
	clock := n.clock + 1000*m.now
	switch {
	case len(m.nodes) == 1 && m.variant != counting: // clock.lua
		return max(n.fence+1, clock)
	case n.fence == 0: // counter.lua
		return clock
	default:
		return n.fence + 1
	}
}

// receive is a client getting a reply.
func (m *model) receive(msg modelMessage) {
	c := &m.clients[msg.client-1]
	if msg.attempt != c.attempt {
		return // late
	}
	if _, answered := c.granted[msg.node]; msg.kind == "acquire" && (answered || c.refused[msg.node]) {
		return // one answer of each master counts
	}
	switch {
	case msg.kind == "acquire" && c.phase == "raising" && msg.ok:
		c.granted[msg.node] = msg.token // late, but in time to be raised, or to have no need of it
		m.raise(msg, c, msg.node)
		m.settle(msg, c)
	case msg.kind == "acquire" && c.phase == "acquiring":
		if !msg.ok {
			if c.refused[msg.node] = true; len(c.refused) > len(m.nodes)-m.quorum() {
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
			if _, ok := c.granted[node]; ok {
				m.raise(msg, c, node)
			}
		}
		m.settle(msg, c)
	case msg.kind == "raise" && c.phase == "raising" && msg.ok:
		c.accepted[msg.node] = true
		m.settle(msg, c)
	}
}

// raise has a master that has granted the lock accept the token.
func (m *model) raise(msg modelMessage, c *modelClient, node int) {
	if c.granted[node] >= c.token {
		c.accepted[node] = true
	} else {
		m.send(modelMessage{node: node, client: msg.client, attempt: c.attempt, kind: "raise", token: c.token})
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
	_, violations, _ := simulate(100, 1, counting, true, true)
	assert.NotZero(t, violations, "counting on from what an old snapshot says")
	for _, nodes := range []int{3, 5} {
		_, violations, _ := simulate(100, nodes, none, false, true)
		assert.NotZero(t, violations, "without writing back, %d nodes", nodes)
	}
	_, _, duplicates := simulate(300, 3, unconditional, false, false) // rarer, the more nodes there are
	assert.NotZero(t, duplicates, "writing back unconditionally")
}
