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
