//go:build linux && (amd64 || arm64)

package client

import (
	"syscall"
	"unsafe"
)

// receiveNow receives what a socket has, or fails with EAGAIN. It does not tell Go's scheduler, which would prepare for a
// thread that stays away, and wake others to take its place: that costs more than the call, which never waits.
func receiveNow(fd uintptr, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(
		syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT, 0, 0,
	)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// giveWay lets another thread use the processor, if one waits for it. Linux lets the server that a command wakes wait
// behind the thread that has sent the command, where the other processors are busy just then: it expects us to sleep.
// Without giving way we would poll in vain for all the time we have. (Of two processors, one was busy for a third of the
// commands where a subscription of this process was told of each.)
func giveWay() { _, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
