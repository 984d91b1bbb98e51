//go:build !unix

package client

// canPoll says that a socket can be asked without waiting.
const canPoll = false

// receive is not called.
func (*polled) receive(uintptr) bool { return true }
