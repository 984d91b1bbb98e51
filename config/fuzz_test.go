package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/sethvargo/go-envconfig"
)

// secret is what no output may contain. It holds every character that the parsers
// on the way give a meaning to, percent-encoded in URLs.
const (
	secret        = "s3cr3t/w0rd"
	secretEncoded = "s3cr3t%2Fw0rd"
)

// leaks fails the test if anything that is made of a Config or an error shows a secret.
func leaks(t *testing.T, what string, v any) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v)
	if raw, err := json.Marshal(v); err == nil {
		text += string(raw)
	}
	if strings.Contains(text, "s3cr3t") {
		t.Fatalf("%s shows the secret: %s", what, text)
	}
}

// FuzzURL puts a secret into the user part and anything else around it.
func FuzzURL(f *testing.F) {
	for _, seed := range [][2]string{
		{"redis://", "localhost:6379/0"}, {"rediss://", "h?db=1"}, {"unix://", "/run/redis.sock"}, {"", "h:1"},
		{"http://", "h"}, {"redis://", "h:99999"}, {"redis://", "h/x"}, {"redis://[::1", "]:1"}, {"redis://", "h?pool_size=-1"},
		{"redis://", "%zz"}, {"redis://h/", "x@y"}, {"redis://h?", "#"}, {"REDIS://", "h"},
		{"redis://:57#", ":6379"}, {"redis://app#1:", "h"}, {"unix://", "run/redis.sock"}, {"unix://run", "/redis.sock"},
		{"redis://", "h1:6379,h2:6379"}, {"redis://", "$(REDIS_HOST):6379"}, {"redis://", "${H}"}, {"redis://", "{{ .H }}"}, {"redis://${U}", "h"},
		{"redis://", "h/1?db=2"}, {"redis://", "h?read_timeout=5"}, {"redis://", "h?db=1&db=2"}, {"valkey://", "h"}, {"valkeys://", "h/1"},
		{" redis://", "h\n"}, {"\"redis://", "h\""}, {"redis://", "[fe80::1%25eth0]:1"}, {"redis://", "fe80::1:1"}, {"redis://", ":1"},
		{"redis://h?", "h"}, {"redis://h?a=", ""}, {"tcp://", "10.0.171.239:6379"}, {"redis://?", "h"}, {"redis:///", "h"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, pw := range []string{secret, secretEncoded} {
			raw := before + "user:" + pw + "@" + after
			c := &Config{URL: raw, LockNodes: []string{raw, raw}}
			leaks(t, "config", c)
			if err := c.Validate(); err != nil {
				leaks(t, "error", err)
				if !errors.Is(err, ErrInvalid) {
					t.Fatalf("%v is not ErrInvalid", err)
				}
				continue
			}
			if strings.Contains(raw, "#") {
				t.Fatal("accepted a URL with a fragment")
			}
			// The user part is ours, so a good URL has our host behind it.
			opts, err := ParseURL(c.WithDefaults().URL)
			if err != nil {
				t.Fatal("Validate accepted what ParseURL refuses")
			}
			if strings.Contains(opts.Addr, "s3cr3t") {
				t.Fatalf("part of the password would be dialled: %s", opts.Addr)
			}
			if _, err := redis.ParseURL(strings.Replace(c.WithDefaults().URL, "valkey", "redis", 1)); err != nil && !strings.Contains(before, "v") {
				t.Fatal("accepted a URL that go-redis refuses")
			}
		}
	})
}

// FuzzEnv gives every variable the same text, with a secret in some.
func FuzzEnv(f *testing.F) {
	for _, seed := range []string{"", "0", "-1", "1", "5s", "true", "a:1,b:2", "redis://h:1", "a b", "99999999999999999999", "1e9", "\x00",
		"tcp://10.0.171.239:6379", "fe80::1%eth0", "[fe80::1%eth0]:1", "5", "5s\n", " 5s ", "\"5s\"", "x\n", "x\r\n", "a\nb", "'x'",
		"h:6379,password=", "h:6379?password=", "password=x;h:", "redis://app:1,", "//app:", "unix://app:",
		"$(X)", "${X}", "{{ x }}", "$X", "h1:1,h2:2", "valkeys://h:1", "2", "3", "/no/such/file", "-1ns", "5 s", "5e9", "1e3", "\ufeffx", " x", "x\t", "\u00a0x", "12345 77", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		env := make(map[string]string)
		for _, field := range fields() {
			env[field.env] = text
			if field.secret {
				env[field.env] = text + secret
			}
			if field.url {
				env[field.env] = "redis://u:" + secretEncoded + "@h/" + text
			}
		}
		c, err := load(t.Context(), "", envconfig.MapLookuper(env), nil)
		leaks(t, "error", err)
		leaks(t, "config", c)
		if (c == nil) == (err == nil) {
			t.Fatal("want either a Config or an error")
		}
		// A secret where none belongs: before a comma and an @, and behind an =.
		forms := []string{text + secret + ",et@h:6379", text + ",password=" + secret + ",ssl=True", text + "?password=" + secret}
		for _, field := range fields() {
			value := forms[(field.index+len(text))%len(forms)] // all of them would take too long
			c, err := load(t.Context(), "", envconfig.MapLookuper(map[string]string{field.env: value}), nil)
			leaks(t, field.env, err)
			leaks(t, field.env, c)
		}
		for name, value := range env { // one at a time gets further than all at once
			c, err := load(t.Context(), "", envconfig.MapLookuper(map[string]string{name: value}), nil)
			leaks(t, name, err)
			leaks(t, name, c)
			if err == nil {
				if err := c.Validate(); err != nil {
					t.Fatalf("Load accepted what Validate refuses: %v", err)
				}
			}
		}
	})
}

// FuzzJSON decodes arbitrary text, and arbitrary values of a secret field.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `{"port":1}`, `{"read_timeout":"x"}`, `null`, `[`, `{"addrs":[1]}`, `{"password":{}}`,
		`{"port":6379}`, `{"port":70000}`, `{"port":6379.5}`, `{"read_timeout":5e9,"pool_size":"20"}`, `{"password":" x","db":1e3}`, `{"read_timeout":5}`, `{"read_timeout":"5"}`, `{"read_timeout":2000000000}`, `{"port":"tcp://10.0.171.239:6379"}`,
		`{"host":"fe80::1%eth0","protocol":2,"conn_max_lifetime":"1h","conn_max_idle_time":"-1"}`, `{"password_file":"x","tls_skip_verify":true}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, in := range []string{
			text,
			`{"password":["` + secret + `",` + text + `]}`,
			`{"password_file":"` + secret + `","a":` + text + `}`,
			`{"url":{"a":"` + secret + `","b":` + text + `},"sentinel_password":"` + secret + `"}`,
			`{"addrs":[{"password":"` + secret + `","a":` + text + `}],"host":{"password":"` + secret + `"},"db":["` + secret + `"]}`,
			`{"port":"h:1,password=` + secret + `","pool_size":"` + secret + `@h","username":{"a":"` + secret + `"},"a":` + text + `}`,
		} {
			var c Config
			err := json.Unmarshal([]byte(in), &c)
			if strings.Contains(text, "s3cr3t") {
				continue // the fuzzer's own
			}
			leaks(t, "error", err)
			if err == nil {
				leaks(t, "config", c)
				leaks(t, "verdict", c.Validate())
			}
		}
	})
}
