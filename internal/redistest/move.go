package redistest

import "strconv"

// MoveSlot moves the key's slot to another master, with the keys that are in it,
// while clients go on, and returns when all masters know. It calls between, where
// that is not nil, when the slot has begun to move, and after each key: what is
// asked for meanwhile may be on either node, or be torn apart.
func (c *Cluster) MoveSlot(t TB, key string, to *Server, between func()) {
	t.Helper()
	from := c.MasterOf(t, key)
	if from == to {
		t.Fatalf("redistest: move a slot: the master has it already")
	}
	reply, err := from.send("CLUSTER", "KEYSLOT", key)
	if err != nil {
		t.Fatalf("redistest: move a slot: %v", err)
	}
	number, _ := reply.(int64)
	slot := strconv.FormatInt(number, 10)
	send := func(s *Server, args ...string) any {
		t.Helper()
		reply, err := s.send(args...)
		if err != nil {
			t.Fatalf("redistest: move slot %s: %s: %v", slot, args[0], err)
		}
		return reply
	}
	send(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from])
	send(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to])
	if between == nil {
		between = func() {}
	}
	between()
	for {
		keys, _ := send(from, "CLUSTER", "GETKEYSINSLOT", slot, "1").([]any)
		if len(keys) == 0 {
			break
		}
		name, _ := keys[0].(string)
		migrate := []string{"MIGRATE", to.Host(), to.Port(), name, "0", "5000"}
		if username, password := to.credentials(); username != "" {
			migrate = append(migrate, "AUTH2", username, password)
		} else if password != "" {
			migrate = append(migrate, "AUTH", password)
		}
		send(from, migrate...) // a key that has expired meanwhile is no error
		between()
	}
	// The node that gets the slot first: it must not become nobody's.
	send(to, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
	send(from, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
	c.wait("all masters know where the slot is", func() error {
		for _, node := range c.running() {
			if node == from || node == to || node.hasRole("master") != nil {
				continue
			}
			if _, err := node.send("CLUSTER", "SETSLOT", slot, "NODE", c.ids[to]); err != nil {
				return err
			}
		}
		return c.movedFrom(from, to, key)
	})
}
