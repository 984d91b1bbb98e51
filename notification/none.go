package notification

// What was never made, a nil pointer or a zero value, is refused like any other argument that cannot be used.

// none reports whether NewRedisNotificationSystem did not make n.
func (n *RedisNotificationSystem) none() bool { return n == nil || n.feed == nil }

// orNone returns n, or in place of one that was never made another that can refuse.
func (n *RedisNotificationSystem) orNone() *RedisNotificationSystem {
	if n.none() {
		m := newMetrics(defaultName)
		return &RedisNotificationSystem{metrics: m, common: &common{metrics: m, refusals: &refusals{}}}
	}
	return n
}

// errNoSystem is the error of a system that NewRedisNotificationSystem did not make.
func errNoSystem() error {
	return &ArgumentError{Argument: "RedisNotificationSystem", Reason: "is nil or zero; NewRedisNotificationSystem makes one"}
}

// none reports whether no system made s.
func (s *Subscription) none() bool { return s == nil || s.messages == nil }

// orNone returns s, or in place of one that was never made another that is closed.
func (s *Subscription) orNone() *Subscription {
	if !s.none() {
		return s
	}
	closed := &Subscription{
		common: &common{}, messages: make(chan *Message), gaps: gaps{out: make(chan Gap)}, closed: true, err: errNoSubscription(),
	}
	close(closed.messages)
	close(closed.gaps.out)
	return closed
}

// errNoSubscription is the error of a subscription that Subscribe did not make.
func errNoSubscription() error {
	return &ArgumentError{Argument: "Subscription", Reason: "is nil or zero; Subscribe makes one"}
}
