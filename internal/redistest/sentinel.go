package redistest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	sentinelCount = 3
	masterName    = "mymaster"
	// wiringLimit covers an election that failed because of a slow machine and
	// is held again.
	wiringLimit = 60 * time.Second
)

// Sentinel is a master with one replica and three sentinels that watch them.
// Its methods must be called from the test's own goroutine.
type Sentinel struct {
	tb        TB
	sentinels []*Server

	mu              sync.Mutex // protects what follows
	master, replica *Server
}

// StartSentinel runs a master, a replica and three sentinels until the test
// ends, and returns when all of them know each other. A server that is silent
// for a second counts as down. The options apply to master and replica;
// WithTLS and WithSentinelPassword to the sentinels too.
func StartSentinel(t TB, opts ...Option) *Sentinel {
	t.Helper()
	set := collect(opts)
	security := newSecurity(t, set)

	master := newServer(t, set, security)
	launchAll(t, []*Server{master})
	replica := newServer(t, set, security)
	replica.specific = []string{"replicaof " + loopback + " " + master.Port()}

	started := []*Server{replica}
	for range sentinelCount {
		sentinel := newServer(t, set, security)
		sentinel.sentinel = true
		sentinel.specific = sentinelLines(set, master)
		started = append(started, sentinel)
	}
	launchAll(t, started)

	s := &Sentinel{tb: t, sentinels: started[1:], master: master, replica: replica}
	for _, sentinel := range s.sentinels {
		// By default sentinels greet each other every 2 s and look at the
		// servers every 10 s. Should a server not know this command, wiring
		// only takes longer. The ping period is also the measure of what a
		// sentinel knows: while the master is down it asks the replica once a
		// second, whatever the info period, and takes what it heard more than
		// five ping periods ago for too old to promote it.
		_, _ = sentinel.send("SENTINEL", "DEBUG", "publish-period", "100", "info-period", "200", "ping-period", "500")
		// A sentinel that did not run for two seconds mistrusts its clock, and
		// fails nothing over for half a minute. On a busy machine that is common.
		_, _ = sentinel.send("SENTINEL", "DEBUG", "tilt-trigger", "600000", "tilt-period", "1000")
	}
	s.wait("sentinels find each other", s.wired)
	// A failover must be over before a sentinel turns the new master back, and
	// its leader looks at that only once a second.
	s.greetEvery("500")
	return s
}

// sentinelLines returns the configuration of one sentinel.
func sentinelLines(set *settings, master *Server) []string {
	lines := []string{
		fmt.Sprintf("sentinel monitor %s %s %s %d", masterName, loopback, master.Port(), sentinelCount/2+1),
		"sentinel down-after-milliseconds " + masterName + " 1000",
		"sentinel failover-timeout " + masterName + " 3000",
		"sentinel parallel-syncs " + masterName + " 1",
	}
	if set.username != "" {
		lines = append(lines, "sentinel auth-user "+masterName+" "+quote(set.username))
	}
	if set.password != "" {
		lines = append(lines, "sentinel auth-pass "+masterName+" "+quote(set.password))
	}
	if set.sentinelPassword != "" {
		lines = append(lines,
			"requirepass "+quote(set.sentinelPassword),
			"sentinel sentinel-pass "+quote(set.sentinelPassword))
	}
	return lines
}

// Addrs returns host and port of each sentinel.
func (s *Sentinel) Addrs() []string {
	addrs := make([]string, len(s.sentinels))
	for i, sentinel := range s.sentinels {
		addrs[i] = sentinel.Addr()
	}
	return addrs
}

// MasterName returns the name under which the sentinels know the master.
func (s *Sentinel) MasterName() string { return masterName }

// Sentinels returns the sentinels, in the order of Addrs.
func (s *Sentinel) Sentinels() []*Server { return slices.Clone(s.sentinels) }

// Master returns the server that is the master at present.
func (s *Sentinel) Master() *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.master
}

// Replica returns the other server; after KillMaster it does not run, and after
// FreezeMaster it stands still.
func (s *Sentinel) Replica() *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replica
}

// Failover lets the sentinels swap master and replica without killing
// anything, and returns when both have their new roles and all sentinels know.
func (s *Sentinel) Failover(t TB) {
	t.Helper()
	s.swap()
	s.wait("the sentinels fail over", func() error {
		// It is asked for again until it happens: a sentinel refuses while it
		// thinks that the replica is not fit yet, or while one is under way,
		// which may still come to nothing.
		state, err := s.sentinels[0].watched()
		if err != nil {
			return err
		}
		if state["port"] != s.Master().Port() {
			_, err := s.sentinels[0].send("SENTINEL", "FAILOVER", masterName)
			return errors.Join(errors.New("not failed over yet"), err)
		}
		return s.wired()
	})
}

// KillMaster ends the master with SIGKILL and returns when the replica has
// taken over and all sentinels know. The former master is Replica then, and
// becomes one when it is restarted.
func (s *Sentinel) KillMaster(t TB) {
	t.Helper()
	s.Master().Kill()
	s.replace()
}

// FreezeMaster stops the master with SIGSTOP and returns when the replica has
// taken over and all sentinels know. The former master is Replica then. When
// it is continued it has the connections it had, and takes itself for the
// master, until the sentinels make a replica of it: see Reunite.
func (s *Sentinel) FreezeMaster(t TB) {
	t.Helper()
	s.Master().Stop()
	s.replace()
}

// replace waits until the replica is master in place of one that is silent.
func (s *Sentinel) replace() {
	s.tb.Helper()
	s.swap()
	s.wait("the replica takes over", s.led)
}

// Reunite returns when the sentinels have made a replica of a former master
// that runs again, for which they close all its connections, and know that it
// follows.
func (s *Sentinel) Reunite(t TB) {
	t.Helper()
	s.greetEvery("100") // the failover is over, so it need not take them two seconds
	s.wait("the former master follows", s.wired)
	s.greetEvery("500")
}

// greetEvery sets the milliseconds between two greetings of a sentinel. The
// time of four is also how long it lets a server be master that should be a
// replica, before it turns it back.
func (s *Sentinel) greetEvery(period string) {
	for _, sentinel := range s.sentinels {
		_, _ = sentinel.send("SENTINEL", "DEBUG", "publish-period", period)
	}
}

// swap exchanges the roles in our books, ahead of the servers.
func (s *Sentinel) swap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.master, s.replica = s.replica, s.master
}

// wait fails the test if the condition does not come true in time.
func (s *Sentinel) wait(what string, condition func() error) {
	s.tb.Helper()
	if err := poll(wiringLimit, condition); err != nil {
		s.tb.Fatalf("redistest: waiting until %s: %v", what, err)
	}
}

// led returns nil when the master is one and every sentinel says so.
func (s *Sentinel) led() error {
	master := s.Master()
	if err := master.hasRole("master"); err != nil {
		return err
	}
	for _, sentinel := range s.sentinels {
		state, err := sentinel.watched()
		if err != nil {
			return err
		}
		if state["port"] != master.Port() || state["flags"] != "master" {
			return fmt.Errorf("sentinel sees port %s as %s", state["port"], state["flags"])
		}
	}
	return nil
}

// wired returns nil when the replica follows the master as well, and each
// sentinel knows both and the other sentinels.
func (s *Sentinel) wired() error {
	if err := s.led(); err != nil {
		return err
	}
	if err := s.Replica().hasRole("slave"); err != nil {
		return err
	}
	for _, sentinel := range s.sentinels {
		state, err := sentinel.watched()
		if err != nil {
			return err
		}
		if state["num-slaves"] != "1" || state["num-other-sentinels"] != strconv.Itoa(sentinelCount-1) {
			return fmt.Errorf("sentinel sees %s replicas and %s other sentinels",
				state["num-slaves"], state["num-other-sentinels"])
		}
		if err := sentinel.seesHealthyReplica(); err != nil {
			return err
		}
	}
	return nil
}

// watched returns what a sentinel knows about the master.
func (s *Server) watched() (map[string]string, error) {
	reply, err := s.send("SENTINEL", "MASTER", masterName)
	if err != nil {
		return nil, err
	}
	return pairs(reply), nil
}

// seesHealthyReplica returns nil when a sentinel would accept the replica as
// the next master: a failover right now must be possible.
func (s *Server) seesHealthyReplica() error {
	reply, err := s.send("SENTINEL", "REPLICAS", masterName)
	if err != nil {
		return err
	}
	replicas, _ := reply.([]any)
	if len(replicas) != 1 {
		return fmt.Errorf("sentinel lists %d replicas", len(replicas))
	}
	state := pairs(replicas[0])
	if state["flags"] != "slave" || state["master-link-status"] != "ok" {
		return fmt.Errorf("sentinel sees the replica as %s, its link as %s", state["flags"], state["master-link-status"])
	}
	return nil
}

// hasRole returns nil when the server has the role and, as a replica, follows
// its master.
func (s *Server) hasRole(role string) error {
	info, err := s.info("replication")
	if err != nil {
		return err
	}
	if info["role"] != role {
		return fmt.Errorf("server on port %s is a %s", s.Port(), info["role"])
	}
	if role == "slave" && info["master_link_status"] != "up" {
		return errors.New("the replica's link is " + info["master_link_status"])
	}
	return nil
}

// pairs turns a list of alternating names and values into a map.
func pairs(reply any) map[string]string {
	list, _ := reply.([]any)
	values := make(map[string]string)
	for pair := range slices.Chunk(list, 2) {
		if len(pair) == 2 {
			values[strings.ToLower(fmt.Sprint(pair[0]))] = fmt.Sprint(pair[1])
		}
	}
	return values
}
