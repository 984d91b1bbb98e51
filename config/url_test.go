package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestUnknownURLOption(t *testing.T) {
	t.Parallel()
	for raw, says := range map[string]string{
		"redis://h?poolsize=424242":                            "without the option poolsize; the options are client_name, conn_max_idle_time,",
		"redis://h?pool-size=424242":                           "without the option pool-size; the options are ",
		"unix:///s?PoolSize=424242&db=1":                       "without the option PoolSize; the options are ",
		"redis://h?pool_size=5&readtimeout=42s":                "without the option readtimeout; the options are ",
		"redis://h?p4ss=424242":                                "without other options than client_name, ",
		"redis://h?=424242":                                    "without other options than client_name, ",
		"redis://h?skip_verify=true":                           "with skip_verify for rediss:// and valkeys:// only",
		"redis://h?min_idle_conns=42&max_idle_conns=41":        "with min_idle_conns of at most max_idle_conns",
		"redis://h?min_retry_backoff=42s&max_retry_backoff=1s": "with min_retry_backoff of at most max_retry_backoff",
		"redis://h?min_retry_backoff=42s&max_retry_backoff=-1": "with min_retry_backoff of at most max_retry_backoff",
		"redis://h?idle_timeout=42s&conn_max_idle_time=42s":    "with conn_max_idle_time without idle_timeout, which means the same",
		"redis://h?pool_size=4242many":                         "with a value of pool_size that fits it",
		"redis://h?db=0&pool_fifo=4242many":                    "with a value of pool_fifo that fits it",
		"rediss://h?skip_verify=4242many":                      "with a value of skip_verify that fits it",
	} {
		for name, c := range map[string]*Config{"URL": {URL: raw}, "LockNodes": {LockNodes: []string{raw}}} {
			err := c.Validate()
			require.Contains(t, badFields(t, err)[name].Allowed, says, raw)
			require.NotContains(t, err.Error(), "42", raw)
		}
	}
	// A ? in a password makes the rest of it look like an option.
	for _, raw := range []string{"redis://app:12?hunter@h:1", "redis://app:12?hunter&x@h", "redis://app:12?hunter=&pool_size=1@h"} {
		err := (&Config{URL: raw}).Validate()
		require.Contains(t, badFields(t, err)["URL"].Allowed, "without ? in user and password, where it is written %3F")
		require.NotContains(t, err.Error(), "hunter")
	}
}

// go-redis takes most zeros for an option that is not there: they are refused, and the
// others mean none.
func TestZeroInURL(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"pool_size", "min_idle_conns", "max_idle_conns", "max_concurrent_dials", "pipeline_pool_size",
		"pipeline_read_buffer_size", "pipeline_write_buffer_size", "protocol", "dial_timeout", "pool_timeout",
	} {
		for _, zero := range []string{"0", "00"} {
			raw := "redis://h?" + name + "=" + zero
			for field, c := range map[string]*Config{"URL": {URL: raw}, "LockNodes": {LockNodes: []string{raw}}} {
				require.Contains(t, badFields(t, c.Validate())[field].Allowed, "a URL with "+name+" ", raw)
			}
		}
	}
	for raw, want := range map[string]int{"redis://h?max_retries=0": -1, "redis://h?max_retries=-1": -1, "redis://h": 0, "redis://h?max_retries=2": 2} {
		o, err := ParseURL(raw)
		require.NoError(t, err)
		require.Equal(t, want, o.MaxRetries, raw)
	}
	for _, good := range []string{
		"redis://h?max_active_conns=0&db=0", "redis://h?read_timeout=0&write_timeout=0s&min_retry_backoff=0&max_retry_backoff=0",
		"redis://h?pool_timeout=24h&conn_max_lifetime_jitter=87600h",
		"redis://h?conn_max_idle_time=0&conn_max_lifetime=0&conn_max_lifetime_jitter=0", "redis://h?pool_size=&protocol=",
	} {
		require.NoError(t, (&Config{URL: good}).Validate(), good)
	}
	for raw, says := range map[string]string{
		"redis://h?pool_size=100001": "with pool_size from 1 to 100000", "redis://h?pipeline_pool_size=0": "from 1 to 100000, or -1 for none",
		"redis://h?max_retries=1001": "with max_retries from 0 or -1 for none to 1000", "redis://h?protocol=1": "with protocol 2 or 3",
		"redis://h?dial_timeout=24h1s": "with dial_timeout from 1ms to 24h", "redis://h?max_retry_backoff=25h": "with max_retry_backoff to 24h",
		"redis://h?read_timeout=9999999h": "with read_timeout from 1ms to 24h", "redis://h?write_timeout=1ns": "with write_timeout from 1ms",
		"redis://h?idle_timeout=87601h": "with idle_timeout to 87600h", "redis://h/1073741825": "with db from 0 to 1073741824",
		"redis://h?db=-1": "with db from 0", "redis://h?max_active_conns=-1": "with max_active_conns from 0 for no limit to 100000",
	} {
		require.Contains(t, badFields(t, (&Config{URL: raw}).Validate())["URL"].Allowed, says)
	}
}

// The lists of options are those of go-redis.
func TestURLOptions(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Concat(urlOptions(), urlDurations()) {
		fits := func(value string) bool {
			_, err := redis.ParseURL("rediss://h?" + name + "=" + value)
			return err == nil
		}
		require.True(t, fits("1") || fits("1s") || fits("true"), name)
		require.True(t, isOptionName(name), name)
		if name != "skip_verify" {
			require.True(t, slices.ContainsFunc([]string{"1", "1s", "true"}, func(value string) bool {
				return (&Config{URL: "redis://h?" + name + "=" + value}).Validate() == nil
			}) || name == "protocol", name)
		}
	}
}

func TestBadNodeIsNamedByItsPosition(t *testing.T) {
	t.Parallel()
	for bad, says := range map[string]string{
		"redis://:hunter2@c:99999":   "for LockNodes[1] a URL with a port from 1 to 65535",
		"redis://:hunter2@c?size=2":  "for LockNodes[1] a URL without the option size; ",
		"redis://:hunt#er2@c":        "for LockNodes[1] a URL without #",
		"redis.internal":             "LockNodes[1] is neither",
		"redis://:hunter2@good-a:1/": "LockNodes[1] is there twice",
	} {
		err := (&Config{LockNodes: []string{"redis://app:hunter2@good-a:1", bad, "good-b:2"}}).Validate()
		got := badFields(t, err)["LockNodes"]
		require.Contains(t, got.Allowed, says)
		if strings.HasSuffix(says, "twice") { // each of them is good
			require.Equal(t, `["redis://REDACTED@good-a:1" "redis://REDACTED@good-a:1/" "good-b:2"]`, got.Value, bad)
		} else {
			require.Equal(t, `["REDACTED"]`, got.Value, bad)
		}
		require.NotContains(t, strings.ReplaceAll(err.Error(), "#", ""), "hunter2")
	}
	err := (&Config{Cluster: true, Addrs: []string{"good-a:1", "good-b:2", "bad"}}).Validate()
	require.ErrorContains(t, err, "which Addrs[2] is not")
	require.NotContains(t, err.Error(), "good-b:2")
}

// A server is the same however its address is written.
func TestLockNodesTwice(t *testing.T) {
	t.Parallel()
	for _, nodes := range [][]string{
		{"h:6379", "h:06379"}, {"Redis.Internal:6379", "redis.internal:6379"}, {"h:1", "redis://H:0001/2"}, {"h:6379", "redis://H"},
		{"[::1]:6379", "[0:0:0:0:0:0:0:1]:06379"}, {"10.0.0.1:1", "[::ffff:10.0.0.1]:1"}, {"[FE80::1%eth0]:1", "[fe80::1%eth0]:1"},
		{"unix:///run/a.sock", "unix:///run/a.sock?db=1"},
	} {
		got := badFields(t, (&Config{LockNodes: nodes}).Validate())["LockNodes"]
		require.Contains(t, got.Allowed, "LockNodes[1] is there twice", nodes)
	}
	for _, nodes := range [][]string{
		{"h:6379", "h:6380"}, {"h:1", "i:1"}, {"unix:///run/a.sock", "unix:///run/A.sock"}, {"[fe80::1%eth0]:1", "[fe80::1%eth1]:1"},
	} {
		require.NoError(t, (&Config{LockNodes: nodes}).Validate(), nodes)
	}
}

func TestDatabase(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int{
		"": 7, "redis://h": 7, "redis://h/": 7, "redis://h/3": 3, "redis://h/0": 0, "redis://h?db=2": 2, "redis://h?db=0": 0,
		"unix:///run/redis.sock": 7, "unix:///run/redis.sock?db=4": 4,
	} {
		c := &Config{URL: raw, DB: 7}
		require.NoError(t, c.Validate())
		require.Equal(t, want, c.Database(), raw)
	}
}

// The user part of a URL reaches up to its last @: with two hosts, the second would get a
// password that holds the first.
func TestTwoHostsWithCredentials(t *testing.T) {
	t.Parallel()
	const both = "a URL with one host, and @ and comma in user and password written %40 and %2C; "
	for raw, says := range map[string]string{
		"redis://app:hunter2@a:6379,app:hunter2@b:6379":         both,
		"redis://app:hunter2@a,app:hunter2@b":                   both,
		"valkeys://app:hunter2@a:1,app:hunter2@b:2,c:hunter@d/": both,
		"redis://:hunter2@a:6379,:hunter2@b:6379/1?pool_size=3": both,
		"redis://app:hunter2@[::1]:6379,app:hunter2@[::2]:6379": both,
		"redis://a:6379,app:hunter2@b:6379":                     both,
		"redis://a,app:hunter2@b":                               both,
		"unix://app:hunter2@a,app:hunter2@/run/redis.sock":      both,
		"redis://app:hunter2@a:6379;app:hunter2@b:6379":         "with one @, which is written %40",
		"redis://app:hunter2@@a:6379":                           "with one @, which is written %40",
	} {
		for name, c := range map[string]*Config{"URL": {URL: raw}, "LockNodes": {LockNodes: []string{raw, "other:1"}}} {
			err := c.Validate()
			require.Contains(t, badFields(t, err)[name].Allowed, says, raw)
			require.NotContains(t, err.Error(), "hunter", raw)
		}
		_, err := fromEnv(t, "APP_", map[string]string{"APP_REDIS_URL": raw})
		require.Contains(t, badFields(t, err)["URL"].Allowed, says, raw)
		_, err = ParseURL(raw)
		require.ErrorIs(t, err, ErrInvalid)
	}
	for raw, want := range map[string]string{
		"redis://app:hunter,2@a": "hunter,2", "redis://:6379,2@a": "6379,2", "redis://app:hunter%40a%2Cb@a": "hunter@a,b",
	} {
		opts, err := ParseURL(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, opts.Password)
		require.Equal(t, "a:6379", opts.Addr)
	}
}

// A line break that a mounted secret left, percent-encoded like the rest of the password.
func TestControlCharactersInUserAndPassword(t *testing.T) {
	t.Parallel()
	const says = "a URL without control characters such as a line break (%0A) in user and password"
	for _, raw := range []string{
		"redis://:hunter2%0a@h:1", "redis://:hunter2%0D%0A@h:1", "rediss://app:hun%0Ater2@h", "redis://hunter2%0A:pw@h",
		"redis://hunter2%0d@h", "valkeys://app:%1Bhunter2@h", "redis://:hunter2%00@h", "redis://:hunter2%7F@h",
		"redis://:hunter2%C2%85@h", "unix://app:hunter2%0A@/run/redis.sock",
	} {
		for name, c := range map[string]*Config{"URL": {URL: raw}, "LockNodes": {LockNodes: []string{"other:1", raw}}} {
			err := c.Validate()
			require.Contains(t, badFields(t, err)[name].Allowed, says, raw)
			require.NotContains(t, err.Error(), "hun", raw)
		}
		_, err := fromEnv(t, "APP_", map[string]string{"APP_REDIS_URL": raw})
		require.Contains(t, badFields(t, err)["URL"].Allowed, says, raw)
		require.NotContains(t, err.Error(), "hun", raw)
		_, err = ParseURL(raw)
		require.ErrorIs(t, err, ErrInvalid, raw)
		require.NotContains(t, err.Error(), "hun", raw)
	}
	for raw, want := range map[string]string{"redis://:a%20b@h": "a b", "redis://app:p%C3%A4%25@h": "pä%", "redis://h": ""} {
		opts, err := ParseURL(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, opts.Password)
	}
}

// What no field takes, no URL takes, and the other way round: but for a blank at the start or end
// of a password, which can be meant where it is percent-encoded.
func TestOneRuleForCredentials(t *testing.T) {
	t.Parallel()
	both := func(user, password string) (fields, url error) {
		raw := "redis://" + urlEscape(user) + ":" + urlEscape(password) + "@h"
		url = (&Config{URL: raw}).Validate()
		require.Equal(t, url == nil, (&Config{LockNodes: []string{raw}}).Validate() == nil)
		fields = (&Config{Username: user, Password: password}).Validate()
		sentinel := (&Config{MasterName: "m", Addrs: []string{"h:1"}, SentinelUsername: user, SentinelPassword: password}).Validate()
		require.Equal(t, fields == nil, sentinel == nil, "%q %q", user, password)
		return fields, url
	}
	for _, bad := range []string{"\x00", "\x01", "\x1b", "\x7f", "\f", "\v", "\u0085", "\r", "x\ny"} {
		for _, text := range []string{bad + "s3cr3t", "s3" + bad + "cr3t", "s3cr3t" + bad + "x"} {
			for _, pair := range [][2]string{{text, "pw"}, {"app", text}} {
				fields, url := both(pair[0], pair[1])
				require.ErrorIs(t, fields, ErrInvalid, "%q", pair)
				require.ErrorIs(t, url, ErrInvalid, "%q", pair)
				require.NotContains(t, fields.Error(), "percent-encoded", "%q", pair)
				require.NotContains(t, url.Error()+(&Config{Password: text}).Validate().Error(), "cr3t")
			}
			file := writeSecret(t, text)
			require.Error(t, (&Config{PasswordFile: file}).Validate(), "%q", text)
		}
	}
	for _, user := range []string{"a b", "a\tb", "a\u00a0b", "\u200ba", " a"} {
		fields, url := both(user, "pw")
		require.ErrorIs(t, fields, ErrInvalid, "%q", user)
		require.ErrorIs(t, url, ErrInvalid, "%q", user)
	}
	for _, password := range []string{"s3 cr3t", "s3\tcr3t", "s3\u200bcr3t", "pä%"} {
		fields, url := both("äpp", password)
		require.NoError(t, fields, "%q", password)
		require.NoError(t, url, "%q", password)
	}
	for _, password := range []string{" s3cr3t", "s3cr3t\t"} {
		fields, url := both("app", password)
		require.ErrorContains(t, fields, "percent-encoded in a URL")
		require.NoError(t, url, "%q", password)
	}
}

// What a URL says is judged as what the fields say.
func TestOddURLs(t *testing.T) {
	t.Parallel()
	for raw, says := range map[string]string{
		"redis://h?client_name=a%20b":     "with client_name as printable ASCII without spaces",
		"redis://h?client_name=a+b":       "with client_name as printable ASCII without spaces",
		"redis://h?client_name=r%C3%A9d":  "with client_name as printable ASCII without spaces",
		"redis://h?client_name=a%0Ab":     "with client_name as printable ASCII without spaces",
		"redis://:57/Wc90@h":              "written %2F",
		"redis://:Wc90/57@h:1":            "written %2F",
		"redis://app:Wc/90@h:1/2":         "written %2F",
		"valkeys://app/Wc90@h":            "written %2F",
		"unix://:57/Wc90@/run/redis.sock": "written %2F",
		"redis://:57?Wc90@h":              "written %3F",
		"redis://:Wc90?57@h":              "written %3F",
		"unix://run/a@b.sock":             "three slashes",
		"unix:///":                        "with the path of a socket",
		"unix:////":                       "with the path of a socket",
		"unix:///run/":                    "with the path of a socket",
		"unix://:Wc90@/":                  "with the path of a socket",
	} {
		for name, c := range map[string]*Config{"URL": {URL: raw}, "LockNodes": {LockNodes: []string{raw}}} {
			err := c.Validate()
			require.Contains(t, badFields(t, err)[name].Allowed, says, raw)
			require.NotContains(t, err.Error(), "Wc90", raw)
		}
	}
	for _, raw := range []string{"redis://h?client_name=a@b", "unix:///run/a@b.sock", "redis://h/?client_name=a%40b"} {
		require.NoError(t, (&Config{URL: raw}).Validate(), raw)
	}
	err := (&Config{LockNodes: []string{"valkey:a"}}).Validate()
	require.ErrorContains(t, err, "valkey://, valkeys:// or unix:// URLs")
}
