package client

import (
	"fmt"
	"strconv"
	"strings"
)

// The oldest servers that work. Redis before 7.0 hides READONLY inside the errors of
// scripts and has no sharded publish/subscribe, without which the failover of a
// Cluster loses events silently. Valkey began as 7.2, and is supported from 8 on.
const (
	oldestRedis  = 7
	oldestValkey = 8
)

// adviceForVersion says that the server which describes itself by info is too old to be used,
// with its version and the one it takes; "" if it is new enough, or does not say.
func adviceForVersion(info string) string {
	product, version, oldest := serverVersion(info)
	if oldest == 0 || majorVersion(version) >= oldest {
		return ""
	}
	return fmt.Sprintf("it is %s %s, and Redis %d.0 or Valkey %d is needed at least", product, version, oldestRedis, oldestValkey)
}

// unknownVersion returns a warning about a server that may be too old: it does not say,
// as INFO failed with err, or it is no Redis.
func unknownVersion(info string, err error) string {
	product, version, oldest := serverVersion(info)
	switch {
	case oldest > 0:
		return ""
	case err != nil && strings.Contains(err.Error(), "section (server) is not supported"):
		return "" // miniredis, as in package embedded: known, without a version
	case product != "":
		return fmt.Sprintf("it is %s %s, with which this module was not tested", product, version)
	case err != nil:
		return "its version is unknown, as INFO is refused: " + discreetReply(err).Error()
	default:
		return "its version is unknown, as INFO does not say it"
	}
}

// serverVersion returns what INFO server says about product and version. oldest is
// the first major version of that product that works, and 0 if that is not known.
//
// Others say the version of the Redis whose commands they have, besides their own.
func serverVersion(info string) (product, version string, oldest int) {
	for _, other := range []string{"dragonfly", "garnet", "kvrocks", "rlec"} {
		if v := infoField(info, other+"_version"); v != "" {
			return other, v, 0
		}
	}
	redis, valkey := infoField(info, "redis_version"), infoField(info, "valkey_version")
	switch name := infoField(info, "server_name"); {
	case valkey != "":
		product, version, oldest = "Valkey", valkey, oldestValkey
	case name != "" && name != "redis":
		return name, redis, 0
	case redis != "":
		product, version, oldest = "Redis", redis, oldestRedis
	}
	if majorVersion(version) == 0 {
		oldest = 0
	}
	return product, version, oldest
}

// majorVersion returns the first number of a version such as 7.0.15, or 0.
func majorVersion(version string) int {
	digits, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// infoField returns the value of one line of INFO, or "".
func infoField(info, name string) string {
	for line := range strings.SplitSeq(info, "\n") {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
