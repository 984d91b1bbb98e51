package batch

// Waiting returns how many commands wait for a pipeline.
func (c *Commands) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, q := range c.queues {
		n += q.Waiting()
	}
	return n
}

// MaxQueues is how many queues are kept.
const MaxQueues = maxQueues

// HasQueue makes a queue for a server if there is none, and reports whether there was.
func (c *Commands) HasQueue(server string) bool {
	c.mu.Lock()
	_, ok := c.queues[server]
	c.mu.Unlock()
	c.queue(server)
	return ok
}
