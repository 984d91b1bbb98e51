package batch

// Waiting returns how many items wait for a batch.
func (q *Queue[T]) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting.Len()
}

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
