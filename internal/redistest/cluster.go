package redistest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// slotCount is the number of hash slots of every Redis cluster.
const slotCount = 16384

// Cluster is a Redis cluster. Its methods must be called from the test's own
// goroutine.
type Cluster struct {
	tb    TB
	nodes []*Server
	ids   map[*Server]string
}

// StartCluster runs a cluster with the given number of masters, which share
// the slots evenly, until the test ends. It returns when every node knows all
// others and calls the cluster's state ok. A node that is silent for 1.5 s
// counts as failed. [WithReplicas] adds replicas.
func StartCluster(t TB, masters int, opts ...Option) *Cluster {
	t.Helper()
	set := collect(opts)
	security := newSecurity(t, set)
	c := &Cluster{tb: t, ids: make(map[*Server]string)}
	for range masters * (1 + set.replicas) {
		node := newServer(t, set, security)
		node.clusterd = true
		node.specific = []string{
			"cluster-enabled yes",
			"cluster-config-file nodes.conf",
			"cluster-node-timeout 1500",
			// A replica may take over however long it has been without news:
			// on a busy machine it is easily disqualified otherwise.
			"cluster-replica-validity-factor 0",
		}
		if security != nil {
			node.specific = append(node.specific, "tls-cluster yes")
		}
		c.nodes = append(c.nodes, node)
	}
	launchAll(t, c.nodes)
	if err := c.assemble(masters); err != nil {
		t.Fatalf("redistest: assemble cluster: %v", err)
	}
	c.wait("all nodes have met", c.met)
	for i, replica := range c.nodes[masters:] {
		id := c.ids[c.nodes[i%masters]]
		if _, err := replica.send("CLUSTER", "REPLICATE", id); err != nil {
			t.Fatalf("redistest: make a node a replica: %v", err)
		}
	}
	c.wait("the cluster is ok", func() error { return c.settled(masters) })
	return c
}

// assemble gives out epochs and slots and introduces the nodes to each other.
func (c *Cluster) assemble(masters int) error {
	for i, node := range c.nodes {
		id, err := node.sendText("CLUSTER", "MYID")
		if err != nil {
			return err
		}
		c.ids[node] = id
		// Distinct epochs from the start spare the nodes the time to sort out
		// that all of them begin with the same.
		if _, err := node.send("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
	}
	for i, master := range c.nodes[:masters] {
		first, last := i*slotCount/masters, (i+1)*slotCount/masters-1
		if _, err := master.send("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
			return err
		}
	}
	for i, node := range c.nodes {
		// Everybody meets everybody, as gossip would take its time.
		for _, other := range c.nodes[i+1:] {
			_, err := node.send("CLUSTER", "MEET", other.Host(), other.Port(), strconv.Itoa(other.bus.number))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Addrs returns host and port of each node, masters of the start first.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, node := range c.nodes {
		addrs[i] = node.Addr()
	}
	return addrs
}

// Nodes returns all nodes, masters of the start first.
func (c *Cluster) Nodes() []*Server { return slices.Clone(c.nodes) }

// MasterOf returns the node that serves the key's slot at present.
func (c *Cluster) MasterOf(t TB, key string) *Server {
	t.Helper()
	master, _, err := c.owners(key)
	if err != nil {
		t.Fatalf("redistest: find the master of a key: %v", err)
	}
	return master
}

// Failover lets a replica take over the key's slot from its master without
// killing anything, and returns when all nodes know. It needs replicas.
func (c *Cluster) Failover(t TB, key string) {
	t.Helper()
	master, replica := c.pair(t, key)
	c.wait("the replica takes over", func() error {
		if replica.hasRole("master") != nil {
			// Refused while the replica's link is not up yet.
			if _, err := replica.send("CLUSTER", "FAILOVER"); err != nil {
				return err
			}
		}
		return c.movedFrom(master, replica, key)
	})
	c.wait("the former master follows", func() error {
		if err := master.hasRole("slave"); err != nil {
			return err
		}
		return c.allSeeReplica(master)
	})
}

// KillMasterOf ends the master of the key's slot with SIGKILL and returns when
// a replica has taken over and all other nodes know. It needs replicas.
func (c *Cluster) KillMasterOf(t TB, key string) {
	t.Helper()
	master, replica := c.pair(t, key)
	master.Kill()
	c.wait("the replica takes over", func() error { return c.movedFrom(master, replica, key) })
}

// pair returns master and first replica of the key's slot.
func (c *Cluster) pair(t TB, key string) (master, replica *Server) {
	t.Helper()
	master, replicas, err := c.owners(key)
	if err != nil {
		t.Fatalf("redistest: find master and replicas of a key: %v", err)
	}
	if len(replicas) == 0 {
		t.Fatalf("redistest: the master of the key has no replica: start the cluster with WithReplicas")
	}
	return master, replicas[0]
}

// movedFrom returns nil when the slot has another master than the given one,
// on which all running nodes agree while they call the cluster's state ok.
func (c *Cluster) movedFrom(former, next *Server, key string) error {
	// Any replica may win the election that follows a death.
	if former.Running() && next.hasRole("master") != nil {
		return errors.New("the replica is none yet")
	}
	for _, node := range c.running() {
		master, _, err := c.ownersSeenBy(node, key)
		if err != nil {
			return err
		}
		if master == former {
			return fmt.Errorf("node on port %s still sees the former master", node.Port())
		}
		if err := node.clusterOK(); err != nil {
			return err
		}
	}
	return nil
}

// allSeeReplica returns nil when every running node knows that a node is a replica.
func (c *Cluster) allSeeReplica(replica *Server) error {
	for _, node := range c.running() {
		views, err := node.clusterNodes()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(views, func(view nodeView) bool { return view.id == c.ids[replica] && view.has("slave") }) {
			return fmt.Errorf("node on port %s does not see the replica yet", node.Port())
		}
	}
	return nil
}

// met returns nil when every node knows all others by name and has a link to them.
func (c *Cluster) met() error {
	for _, node := range c.nodes {
		views, err := node.clusterNodes()
		if err != nil {
			return err
		}
		if len(views) != len(c.nodes) {
			return fmt.Errorf("node on port %s knows %d nodes", node.Port(), len(views))
		}
		for _, view := range views {
			if view.has("handshake") || view.has("noaddr") || !view.connected {
				return fmt.Errorf("node on port %s is not done with meeting", node.Port())
			}
		}
	}
	return nil
}

// settled returns nil when every node sees the same roles, replicas follow
// their masters and the state is ok.
func (c *Cluster) settled(masters int) error {
	for i, node := range c.nodes {
		if err := node.clusterOK(); err != nil {
			return err
		}
		if i >= masters {
			if err := node.hasRole("slave"); err != nil {
				return err
			}
		}
		views, err := node.clusterNodes()
		if err != nil {
			return err
		}
		replicas := 0
		for _, view := range views {
			if view.has("slave") {
				replicas++
			}
		}
		if want := len(c.nodes) - masters; replicas != want {
			return fmt.Errorf("node on port %s sees %d replicas of %d", node.Port(), replicas, want)
		}
	}
	return nil
}

// wait fails the test if the condition does not come true in time.
func (c *Cluster) wait(what string, condition func() error) {
	c.tb.Helper()
	if err := poll(wiringLimit, condition); err != nil {
		c.tb.Fatalf("redistest: waiting until %s: %v", what, err)
	}
}

// running returns the nodes that have not been killed.
func (c *Cluster) running() []*Server {
	return slices.DeleteFunc(c.Nodes(), func(node *Server) bool { return !node.Running() })
}

// owners asks the first running node for master and replicas of the key's slot.
func (c *Cluster) owners(key string) (master *Server, replicas []*Server, err error) {
	nodes := c.running()
	if len(nodes) == 0 {
		return nil, nil, errors.New("no node is running")
	}
	return c.ownersSeenBy(nodes[0], key)
}

// ownersSeenBy returns master and running replicas of the key's slot as one
// node sees them.
func (c *Cluster) ownersSeenBy(node *Server, key string) (master *Server, replicas []*Server, err error) {
	reply, err := node.send("CLUSTER", "KEYSLOT", key)
	if err != nil {
		return nil, nil, err
	}
	slot, _ := reply.(int64)
	views, err := node.clusterNodes()
	if err != nil {
		return nil, nil, err
	}
	owner := slices.IndexFunc(views, func(view nodeView) bool { return view.has("master") && view.serves(slot) })
	if owner < 0 {
		return nil, nil, fmt.Errorf("slot %d has no master", slot)
	}
	for _, candidate := range c.nodes {
		switch id := c.ids[candidate]; {
		case id == views[owner].id:
			master = candidate
		case slices.ContainsFunc(views, func(view nodeView) bool { return view.id == id && view.master == views[owner].id }):
			if candidate.Running() {
				replicas = append(replicas, candidate)
			}
		}
	}
	return master, replicas, nil
}

// clusterOK returns nil when the node calls the cluster's state ok.
func (s *Server) clusterOK() error {
	text, err := s.sendText("CLUSTER", "INFO")
	if err != nil {
		return err
	}
	if state := fields(text)["cluster_state"]; state != "ok" {
		return fmt.Errorf("node on port %s: cluster state %s", s.Port(), state)
	}
	return nil
}

// nodeView is what one node knows about another, or about itself.
type nodeView struct {
	id, flags, master string
	connected         bool
	slots             [][2]int64
}

// has reports whether a flag is set.
func (v nodeView) has(flag string) bool { return slices.Contains(strings.Split(v.flags, ","), flag) }

// serves reports whether the slot belongs to the node.
func (v nodeView) serves(slot int64) bool {
	return slices.ContainsFunc(v.slots, func(r [2]int64) bool { return r[0] <= slot && slot <= r[1] })
}

// clusterNodes asks a node for everything it knows.
func (s *Server) clusterNodes() ([]nodeView, error) {
	text, err := s.sendText("CLUSTER", "NODES")
	if err != nil {
		return nil, err
	}
	var views []nodeView
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 8 {
			continue
		}
		view := nodeView{
			id: words[0], flags: words[2], master: words[3],
			connected: words[7] == "connected" || slices.Contains(strings.Split(words[2], ","), "myself"),
		}
		for _, word := range words[8:] {
			from, to, isRange := strings.Cut(word, "-")
			if !isRange {
				to = from
			}
			first, err1 := strconv.ParseInt(from, 10, 64)
			last, err2 := strconv.ParseInt(to, 10, 64)
			if errors.Join(err1, err2) == nil { // slots on the move have another form
				view.slots = append(view.slots, [2]int64{first, last})
			}
		}
		views = append(views, view)
	}
	return views, nil
}
