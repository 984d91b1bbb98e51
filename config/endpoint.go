package config

import (
	"slices"
	"strings"
)

// overridden returns the fields that have no effect because another one wins. A bad
// value in them does no harm: many come with the environment, such as the REDIS_PORT
// that Kubernetes sets for a Service named redis.
func (c *Config) overridden() map[string]bool {
	out := make(map[string]bool)
	set := func(names ...string) {
		for _, name := range names {
			out[name] = true
		}
	}
	if c.MasterName != "" || (c.Cluster && len(c.Addrs) > 0) {
		set("Host", "Port")
	}
	if c.TLSConfig != nil {
		set("TLSEnabled", "TLSCAFile", "TLSCertFile", "TLSKeyFile", "TLSServerName", "TLSSkipVerify")
	}
	if c.URL == "" {
		return out
	}
	opts, err := ParseURL(c.URL)
	if err != nil {
		return out // a URL that is refused wins over nothing
	}
	set("Host", "Port")
	if opts.TLSConfig != nil {
		set("TLSEnabled") // the scheme has decided
	}
	if c.MasterName == "" && !c.Cluster {
		set("Addrs") // the URL names the one server there is
	}
	if namesDatabase(c.URL) {
		set("DB")
	}
	if opts.Username != "" {
		set("Username")
	}
	if opts.Password != "" {
		set("Password")
	}
	return out
}

// endpoint checks the address of the main server.
func (v *validation) endpoint() {
	c := v.cfg
	if !isHost(c.Host) {
		v.reject("Host", allowedHost)
	}
	if !isPort(c.Port) {
		v.reject("Port", allowedPort)
	}
	if c.URL == "" {
		return
	}
	opts, allowed := checkURL(c.URL)
	if allowed != "" {
		v.reject("URL", "%s", allowed)
		return
	}
	if c.Cluster && opts.Network == "unix" {
		v.reject("URL", "a redis://, rediss://, valkey:// or valkeys:// URL with Cluster")
	}
	if c.Cluster && opts.DB != 0 {
		v.reject("URL", "database 0 with Cluster")
	}
}

// topology checks the choice between one server, Sentinel and Cluster.
func (v *validation) topology() {
	c := v.cfg
	if c.Cluster && c.DB != 0 {
		v.reject("DB", "0 with Cluster")
	}
	if c.MasterName != "" {
		switch {
		case c.Cluster:
			v.reject("MasterName", "nothing with Cluster: use either Sentinel or Cluster")
		case len(c.Addrs) == 0:
			v.reject("Addrs", "at least one host:port of a sentinel with MasterName")
		}
		if !isPrintable(c.MasterName) {
			v.reject("MasterName", allowedName)
		}
	}
	if len(c.Addrs) > 0 {
		if i := slices.IndexFunc(c.Addrs, func(a string) bool { return !isHostPort(a) }); i >= 0 {
			v.reject("Addrs", "%s, which Addrs[%d] is not", allowedAddrs, i)
		}
		if c.MasterName == "" && !c.Cluster {
			v.reject("Addrs", "nothing without MasterName (Sentinel) or Cluster")
		}
	}
	if c.URL != "" && (c.MasterName != "" || (c.Cluster && len(c.Addrs) > 0)) {
		// Both would name the servers, and either could be the one that is meant.
		v.reject("URL", "nothing with MasterName, or with Cluster and Addrs: the addresses would contradict each other")
	}
	if c.MasterName == "" && (c.SentinelUsername != "" || c.SentinelPassword != "") {
		name := "SentinelPassword"
		if c.SentinelPassword == "" {
			name = "SentinelUsername"
		}
		v.reject(name, "nothing without MasterName")
	}
}

// lockNodes checks the addresses of the independent masters.
func (v *validation) lockNodes() {
	seen := make(map[string]bool)
	for i, node := range v.cfg.LockNodes {
		addr := node
		if strings.Contains(node, "://") {
			opts, allowed := checkURL(node)
			if allowed != "" {
				v.reject("LockNodes", "a list of host:port or of URLs, and for LockNodes[%d] %s", i, allowed)
				return
			}
			if isLonely(opts.Username, opts.Password) {
				v.reject("LockNodes", "for the user in LockNodes[%d] %s", i, needsPassword)
				return
			}
			if addr = opts.Addr; opts.Network == "unix" {
				addr = "unix:" + addr // a path, in which capitals matter
			}
		} else if !isHostPort(node) {
			v.reject("LockNodes", "a list of host:port or of redis://, rediss://, valkey://, valkeys:// or unix:// URLs, and LockNodes[%d] is neither", i)
			return
		}
		if addr = sameAddress(addr); seen[addr] {
			v.reject("LockNodes", "each server once, and LockNodes[%d] is there twice: a majority of copies decides nothing", i)
			return
		}
		seen[addr] = true
	}
}
