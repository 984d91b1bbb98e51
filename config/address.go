package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	allowedHost  = "a host name or an IP address, without a port"
	allowedPort  = "a port from 1 to 65535"
	allowedAddrs = "a list of host:port, with " + allowedPort
)

// isPort reports whether s is a TCP port in plain digits.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// isHost reports whether s can be the host part of an address: a name or an IP
// address, IPv6 with or without brackets and with or without a zone.
func isHost(s string) bool {
	if inside, ok := strings.CutPrefix(s, "["); ok {
		inside, ok = strings.CutSuffix(inside, "]")
		return ok && isIPv6(inside)
	}
	return isName(s) || isIPv6(s)
}

// isName reports whether s is a host name or an IPv4 address. Anything but letters,
// digits, dots, hyphens and underscores is a sign of something else: of a list, of
// part of a password, or of a variable that was not filled in.
func isName(s string) bool {
	other := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(".-_", r)
	}
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, other)
}

// isIPv6 reports whether s is an IPv6 address; its zone names an interface.
func isIPv6(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is6() && (ip.Zone() == "" || isName(ip.Zone())) && !isEscapedZone(s)
}

// isEscapedZone reports whether the % before a zone is written %25 where nothing decodes it: the
// interface would be 25eth0. Digits alone are the number of one.
func isEscapedZone(s string) bool {
	_, zone, ok := strings.Cut(s, "%25")
	first, _ := utf8.DecodeRuneInString(zone) // of none, no letter
	return ok && unicode.IsLetter(first)
}

// isHostPort reports whether s is host:port with both parts.
func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && isHost(host) && isPort(port)
}

// sameAddress returns host:port in the one form that all spellings of it share: the
// host in lower case, an IP address in its shortest form, and the port without leading
// zeros. Anything else, such as the path of a socket, comes back as it is.
func sameAddress(s string) string {
	host, port, err := net.SplitHostPort(s)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || strings.HasPrefix(s, "unix:") {
		return s
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String() // with its zone, in which capitals matter
	} else {
		host = strings.ToLower(host)
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10))
}

// isServiceLink reports whether s is what Kubernetes puts into <SERVICE>_PORT for
// every Service it knows, as Docker did for links: tcp://10.0.171.239:6379.
func isServiceLink(s string) bool {
	protocol, addr, ok := strings.Cut(s, "://")
	_, err := netip.ParseAddrPort(addr)
	return ok && err == nil && (protocol == "tcp" || protocol == "udp" || protocol == "sctp")
}

// allowedName is what users and masters are called: isPrintable.
const allowedName = "a name without blanks, control and invisible characters"

// isPrintable reports whether s consists of printable characters other than space.
func isPrintable(s string) bool {
	for _, r := range s {
		if r <= ' ' || r == 0x7f || !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

// isASCII reports whether s has no byte above 0x7f.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f })
}
