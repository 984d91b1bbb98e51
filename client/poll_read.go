//go:build unix && !(linux && (amd64 || arm64))

package client

import "syscall"

// receiveNow receives what a socket has, or fails with EAGAIN.
func receiveNow(fd uintptr, b []byte) (int, error) { return syscall.Read(int(fd), b) }

// giveWay would let another thread use the processor; Go has no portable way.
func giveWay() {}
