package lock

// What was never made, a nil pointer or a zero value, is refused like any other argument that cannot be used.

// none reports whether NewRedisLockManager did not make m.
func (m *RedisLockManager) none() bool { return m == nil || m.keeper == nil }

// errNoManager is the error of a manager that NewRedisLockManager did not make.
func errNoManager() error {
	return &ArgumentError{Argument: "RedisLockManager", Reason: "is nil or zero; NewRedisLockManager makes one"}
}

// none reports whether no manager made l.
func (l *RedisLock) none() bool { return l == nil || l.keeper == nil }

// orLost returns l, or for nil a lock that is not held.
func (l *RedisLock) orLost() *RedisLock {
	if l == nil {
		return &RedisLock{state: stateLost, cause: ErrLockNotHeld}
	}
	return l
}
