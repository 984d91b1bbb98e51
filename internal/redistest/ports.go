package redistest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

const (
	loopback = "127.0.0.1"

	// Ports are taken below the range that operating systems give to outgoing
	// connections. Otherwise a server that is down for a moment could lose its
	// port to one of them, or a client that reconnects could meet itself.
	firstPort = 12000
	portCount = 10000

	portAttempts = 1000
)

// port is a TCP port reserved for a server, for as long as the reservation is
// held: while the server is down as well.
type port struct {
	number int
	// guard listens on a port that belongs to this one. Harnesses in other
	// processes cannot listen there and so leave the port alone; when this
	// process ends, however it ends, the reservation is gone.
	guard net.Listener
}

// reservePort finds a port that nobody listens on. Somebody outside of this
// harness may still be faster than the server: its start must be repeated with
// another port then.
func reservePort() (*port, error) {
	for range portAttempts {
		number := firstPort + rand.IntN(portCount)
		guard, err := net.Listen("tcp", address(number+portCount))
		if err != nil {
			continue
		}
		probe, err := net.Listen("tcp", address(number))
		if err != nil {
			_ = guard.Close()
			continue
		}
		_ = probe.Close()
		return &port{number: number, guard: guard}, nil
	}
	return nil, errors.New("redistest: no free port found")
}

// release gives the port back; nil may be released.
func (p *port) release() {
	if p != nil {
		_ = p.guard.Close()
	}
}

// address returns host and port of a port on the loopback interface.
func address(number int) string {
	return net.JoinHostPort(loopback, strconv.Itoa(number))
}
