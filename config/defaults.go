package config

import (
	"context"
	"reflect"
	"slices"

	"github.com/sethvargo/go-envconfig"
)

// Default returns a complete Config with every default and nothing from the
// environment. Zeros set on it afterwards are meant as zeros.
func Default() *Config {
	c := &Config{complete: true}
	nothing := envconfig.MapLookuper(nil)
	for _, f := range fields() {
		// The defaults come from our own tags: a test covers that they parse.
		if v, err := decodeEnv(context.Background(), f, nothing); err == nil && v.IsValid() {
			reflect.ValueOf(c).Elem().Field(f.index).Set(v)
		}
	}
	return c
}

// WithDefaults returns a complete copy of c. Zero fields of a hand-written
// Config get their defaults, zeros of a complete one stay. The value -1, where it
// means "none", becomes 0. Blanks around addresses, a byte order mark and a line break
// at the end of any text are removed. A nil c is the same as Default.
func (c *Config) WithDefaults() *Config {
	if c == nil {
		return Default()
	}
	out := c.clone()
	if !out.complete {
		given := make(map[string]bool)
		def := reflect.ValueOf(Default()).Elem()
		val := reflect.ValueOf(out).Elem()
		for _, f := range fields() {
			if fv := val.Field(f.index); fv.IsZero() {
				fv.Set(def.Field(f.index))
			} else {
				given[f.name] = true
			}
		}
		out.fitDefaults(given)
		out.complete = true
	}
	out.clean()
	out.normalise()
	return out
}

// ForgetServer gives every field that says which server is used, how it is reached
// and as whom its default: address, database number, topology, lock nodes, credentials,
// TLS and Dialer. It is for code that leads c to a server of its own.
func (c *Config) ForgetServer() {
	if c == nil {
		return
	}
	def, val := reflect.ValueOf(Default()).Elem(), reflect.ValueOf(c).Elem()
	for _, f := range fields() {
		if f.server {
			val.Field(f.index).Set(def.Field(f.index))
		}
	}
}

// normalise replaces the -1 that means "none" by 0, so that readers of a
// complete Config have one value to look for.
func (c *Config) normalise() {
	c.MaxRetries = noneToZero(c.MaxRetries)
	c.ConnMaxLifetime = noneToZero(c.ConnMaxLifetime)
	c.ConnMaxIdleTime = noneToZero(c.ConnMaxIdleTime)
	c.ReadTimeout = noneToZero(c.ReadTimeout)
	c.WriteTimeout = noneToZero(c.WriteTimeout)
	c.MinRetryBackoff = noneToZero(c.MinRetryBackoff)
	c.MaxRetryBackoff = noneToZero(c.MaxRetryBackoff)
	c.NotificationHistorySize = noneToZero(c.NotificationHistorySize)
	c.StoreNearEntries = noneToZero(c.StoreNearEntries)
}

func noneToZero[T ~int | ~int64](v T) T {
	if v == -1 {
		return 0
	}
	return v
}

// fitDefaults moves defaults so that they agree with the values given beside
// them: setting one of a pair must not fail because of the other's default.
// Values that were given are never changed.
func (c *Config) fitDefaults(given map[string]bool) {
	if !given["MaxIdleConns"] {
		c.MaxIdleConns = min(c.MaxIdleConns, max(c.PoolSize, 0))
		if given["MinIdleConns"] {
			c.MaxIdleConns = max(c.MaxIdleConns, c.MinIdleConns)
		}
	}
	if !given["MinIdleConns"] {
		c.MinIdleConns = min(c.MinIdleConns, max(c.PoolSize, 0))
		if c.MaxIdleConns > 0 {
			c.MinIdleConns = min(c.MinIdleConns, c.MaxIdleConns)
		}
	}
	switch lo, hi := noneToZero(c.MinRetryBackoff), noneToZero(c.MaxRetryBackoff); {
	case lo <= hi:
	case !given["MaxRetryBackoff"]:
		c.MaxRetryBackoff = lo
	case !given["MinRetryBackoff"]:
		c.MinRetryBackoff = max(hi, 0)
	}
}

// clone copies c and the slices and pointers that the caller could change.
// TLSConfig, Dialer and what provides credentials are shared: they are not ours to
// copy here.
func (c *Config) clone() *Config {
	out := *c
	out.Addrs = slices.Clone(c.Addrs)
	out.LockNodes = slices.Clone(c.LockNodes)
	if c.Required != nil {
		required := *c.Required
		out.Required = &required
	}
	return &out
}
