package lock

// agree settles the token of a lock that a majority has granted: the largest that one of them gave, stored on a
// majority before anybody sees it. Every later majority then contains a node that counts on from it.
//
// Most often the nodes agree already. If not, the token is written back, but only where our value still holds the lock:
// elsewhere another holder may have been given a larger one, or the same.
func (r *round) agree() (int64, error) {
	if len(r.votes) == 1 {
		return r.votes[0].token, nil // nobody else can vote any more
	}
	votes := r.snapshot()
	t := count(votes)
	if t.stored >= r.manager.quorum() {
		return t.token, nil
	}
	behind := 0
	answers := make(chan bool, len(votes))
	for i, v := range votes {
		if v.outcome != granted || v.token == t.token {
			continue
		}
		behind++
		n := r.manager.nodes[i]
		r.manager.tasks.spawn(func() {
			reply, _, err := n.number(r, newCall(n.scripts.raise, []string{r.keys.lock(), r.keys.fence()}, r.value, t.token))
			answers <- err == nil && reply == 1
		})
	}
	for stored := t.stored; behind > 0; behind-- {
		if !<-answers {
			continue
		}
		if stored++; stored >= r.manager.quorum() {
			return t.token, nil
		}
	}
	return 0, errNoTokens
}
