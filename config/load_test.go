package config

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/sethvargo/go-envconfig"
	"github.com/stretchr/testify/require"
)

// fromEnv loads from the given variables alone.
func fromEnv(t *testing.T, prefix string, env map[string]string) (*Config, error) {
	t.Helper()
	return load(t.Context(), prefix, envconfig.MapLookuper(env), nil)
}

// badFields returns the fields of a *Error by name.
func badFields(t *testing.T, err error) map[string]FieldError {
	t.Helper()
	require.ErrorIs(t, err, ErrInvalid)
	var e *Error
	require.ErrorAs(t, err, &e)
	out := make(map[string]FieldError, len(e.Fields))
	for _, f := range e.Fields {
		require.NotContains(t, out, f.Field, "reported twice")
		require.NotEmpty(t, f.Allowed, f.Field)
		out[f.Field] = f
	}
	return out
}

func TestLoadWithoutVariables(t *testing.T) {
	t.Parallel()
	c, err := fromEnv(t, "", nil)
	require.NoError(t, err)
	require.Equal(t, Default(), c)
}

func TestLoadReadsEveryVariable(t *testing.T) {
	t.Parallel()
	no := false
	ca, cert, key := writeTLSFiles(t)
	env := map[string]string{
		"REDIS_HOST": "redis.internal", "REDIS_PORT": "6380", "REDIS_USERNAME": "app", "REDIS_PASSWORD": "hunter2",
		"REDIS_DB": "3", "REDIS_POOL_SIZE": "20", "REDIS_MAX_IDLE_CONNS": "8", "REDIS_MIN_IDLE_CONNS": "4",
		"REDIS_DIAL_TIMEOUT": "1s", "REDIS_READ_TIMEOUT": "2s", "REDIS_WRITE_TIMEOUT": "3s500ms",
		"REDIS_POOL_TIMEOUT": "5s", "REDIS_PING_TIMEOUT": "250ms",
		"REDIS_TLS": "true", "REDIS_TLS_CA_FILE": ca, "REDIS_TLS_CERT_FILE": cert, "REDIS_TLS_KEY_FILE": key,
		"REDIS_TLS_SERVER_NAME": "redis.example",
		"REDIS_MAX_RETRIES":     "5", "REDIS_MIN_RETRY_BACKOFF": "1ms", "REDIS_MAX_RETRY_BACKOFF": "1s",
		"REDIS_CLIENT_NAME": "orders", "REDIS_KEY_PREFIX": "orders:", "REDIS_LOCK_NODES": "a:1, redis://:pw@b:2 ,",
		"REDIS_TLS_SKIP_VERIFY":          "true",
		"REDIS_PROTOCOL":                 "2",
		"REDIS_CONN_MAX_LIFETIME":        "1h",
		"REDIS_CONN_MAX_IDLE_TIME":       "10m",
		"REDIS_REQUIRED":                 "false",
		"REDIS_NOTIFICATION_BUFFER_SIZE": "7", "REDIS_NOTIFICATION_POLICY": "drop_oldest",
		"REDIS_NOTIFICATION_HISTORY_SIZE": "8", "REDIS_NOTIFICATION_HISTORY_TTL": "9m",
		"REDIS_NOTIFICATION_HISTORY_BYTES": "10", "REDIS_NOTIFICATION_MAX_EVENT_SIZE": "11",
		"REDIS_NOTIFICATION_CHANNEL_PREFIX": "staging:",
		"REDIS_STORE_TIMEOUT":               "100ms", "REDIS_STORE_NEAR_ENTRIES": "12", "REDIS_STORE_NEAR_BYTES": "13",
		"REDIS_STORE_NEAR_MAX_STALENESS": "2s", "REDIS_STORE_STATE_TIMEOUT": "3s",
	}
	want := &Config{
		Host: "redis.internal", Port: "6380", Username: "app", Password: "hunter2", DB: 3,
		PoolSize: 20, MaxIdleConns: 8, MinIdleConns: 4,
		DialTimeout: time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 3500 * time.Millisecond,
		PoolTimeout: 5 * time.Second, PingTimeout: 250 * time.Millisecond,
		TLSEnabled: true, TLSCAFile: ca, TLSCertFile: cert, TLSKeyFile: key, TLSServerName: "redis.example",
		TLSSkipVerify: true, Protocol: 2, ConnMaxLifetime: time.Hour, ConnMaxIdleTime: 10 * time.Minute,
		MaxRetries: 5, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: time.Second,
		ClientName: "orders", KeyPrefix: "orders:", LockNodes: []string{"a:1", "redis://:pw@b:2"}, Required: &no,
		NotificationBufferSize: 7, NotificationPolicy: "drop_oldest",
		NotificationHistorySize: 8, NotificationHistoryTTL: 9 * time.Minute,
		NotificationHistoryBytes: 10, NotificationMaxEventSize: 11, NotificationChannelPrefix: "staging:",
		StoreTimeout: 100 * time.Millisecond, StoreNearEntries: 12, StoreNearBytes: 13, StoreNearMaxStaleness: 2 * time.Second,
		StoreStateTimeout: 3 * time.Second,
		complete:          true,
	}
	got, err := fromEnv(t, "", env)
	require.NoError(t, err)
	require.Equal(t, want, got)

	prefixed := make(map[string]string, len(env))
	for k, v := range env {
		prefixed["APP_"+k] = v
	}
	got, err = fromEnv(t, "APP_", prefixed)
	require.NoError(t, err)
	require.Equal(t, "APP_", got.EnvPrefix())
	got.prefix = ""
	require.Equal(t, want, got)

	got, err = fromEnv(t, "OTHER_", prefixed)
	require.NoError(t, err)
	got.prefix = ""
	require.Equal(t, Default(), got, "variables of another prefix are not ours")
}

func TestLoadTopologies(t *testing.T) {
	t.Parallel()
	c, err := fromEnv(t, "", map[string]string{
		"REDIS_MASTER_NAME": "mymaster", "REDIS_ADDRS": "a:26379,b:26379",
		"REDIS_SENTINEL_USERNAME": "s", "REDIS_SENTINEL_PASSWORD": "spw",
	})
	require.NoError(t, err)
	require.Equal(t, "mymaster", c.MasterName)
	require.Equal(t, []string{"a:26379", "b:26379"}, c.Addrs)
	require.Equal(t, "s", c.SentinelUsername)
	require.Equal(t, "spw", c.SentinelPassword)

	c, err = fromEnv(t, "", map[string]string{"REDIS_CLUSTER": "1", "REDIS_ADDRS": "a:6379"})
	require.NoError(t, err)
	require.True(t, c.Cluster)

	c, err = fromEnv(t, "", map[string]string{"REDIS_URL": "rediss://user:pw@redis.internal:6380/2"})
	require.NoError(t, err)
	require.True(t, c.UsesTLS())
}

func TestLoadExplicitZero(t *testing.T) {
	t.Parallel()
	c, err := fromEnv(t, "", map[string]string{
		"REDIS_MAX_RETRIES": "0", "REDIS_MIN_IDLE_CONNS": "0", "REDIS_MAX_IDLE_CONNS": "0", "REDIS_READ_TIMEOUT": "0",
		"REDIS_WRITE_TIMEOUT": "0s", "REDIS_MIN_RETRY_BACKOFF": "0", "REDIS_NOTIFICATION_HISTORY_SIZE": "0",
	})
	require.NoError(t, err)
	c = c.WithDefaults() // what the client does with it
	require.Zero(t, c.MaxRetries)
	require.Zero(t, c.MinIdleConns)
	require.Zero(t, c.MaxIdleConns)
	require.Zero(t, c.ReadTimeout)
	require.Zero(t, c.WriteTimeout)
	require.Zero(t, c.MinRetryBackoff)
	require.Zero(t, c.NotificationHistorySize)
	require.Equal(t, 512*time.Millisecond, c.MaxRetryBackoff)
}

func TestLoadMinusOne(t *testing.T) {
	t.Parallel()
	c, err := fromEnv(t, "", map[string]string{
		"REDIS_MAX_RETRIES": "-1", "REDIS_MIN_RETRY_BACKOFF": "-1", "REDIS_MAX_RETRY_BACKOFF": "-1",
		"REDIS_NOTIFICATION_HISTORY_SIZE": "-1", "REDIS_STORE_NEAR_ENTRIES": "-1",
	})
	require.NoError(t, err)
	require.Zero(t, c.MaxRetries)
	require.Zero(t, c.MinRetryBackoff)
	require.Zero(t, c.MaxRetryBackoff)
	require.Zero(t, c.NotificationHistorySize)
	require.Zero(t, c.StoreNearEntries)
}

func TestLoadEmptyVariableIsUnset(t *testing.T) {
	t.Parallel()
	env := make(map[string]string)
	for _, f := range fields() {
		if f.env != "" {
			env[f.env] = ""
		}
	}
	c, err := fromEnv(t, "", env)
	require.NoError(t, err)
	require.Equal(t, Default(), c)
}

func TestLoadFitsDefaults(t *testing.T) {
	t.Parallel()
	c, err := fromEnv(t, "", map[string]string{"REDIS_POOL_SIZE": "1"})
	require.NoError(t, err)
	require.Equal(t, 1, c.MaxIdleConns)
	require.Equal(t, 1, c.MinIdleConns)

	_, err = fromEnv(t, "", map[string]string{"REDIS_MAX_IDLE_CONNS": "2", "REDIS_MIN_IDLE_CONNS": "3"})
	require.Contains(t, badFields(t, err), "MinIdleConns", "what was given is not changed")
}

func TestLoadReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := fromEnv(t, "APP_", map[string]string{
		"APP_REDIS_URL":          "redis://app:hunter2@redis.internal:99999",
		"APP_REDIS_PORT":         "http",
		"APP_REDIS_DB":           "three",
		"APP_REDIS_DIAL_TIMEOUT": "5",
		"APP_REDIS_TLS":          "maybe",
		"APP_REDIS_REQUIRED":     "perhaps",
		"APP_REDIS_POOL_SIZE":    "-4",
		"APP_REDIS_LOCK_NODES":   "redis://:hunter2@a:1,b",
		"APP_REDIS_PASSWORD":     "hunter2",
	})
	got := badFields(t, err)
	want := map[string]FieldError{
		"URL":         {Variable: "APP_REDIS_URL", Value: `"redis://REDACTED"`, Allowed: "a URL with a port from 1 to 65535"},
		"Port":        {Variable: "APP_REDIS_PORT", Value: `"http"`, Allowed: allowedPort},
		"DB":          {Variable: "APP_REDIS_DB", Value: `"three"`, Allowed: "a whole number, 0 to 1073741824"},
		"DialTimeout": {Variable: "APP_REDIS_DIAL_TIMEOUT", Value: `"5"`, Allowed: "a duration such as 500ms, 5s or 1h, 1ms to 24h", Hint: `a number needs its unit: "5s"`},
		"TLSEnabled":  {Variable: "APP_REDIS_TLS", Value: `"maybe"`, Allowed: "true or false"},
		"Required":    {Variable: "APP_REDIS_REQUIRED", Value: `"perhaps"`, Allowed: "true or false"},
		"PoolSize":    {Variable: "APP_REDIS_POOL_SIZE", Value: "-4", Allowed: "1 to 100000"},
		"LockNodes": {Variable: "APP_REDIS_LOCK_NODES", Value: `["REDACTED"]`,
			Allowed: "a list of host:port or of redis://, rediss://, valkey://, valkeys:// or unix:// URLs, and LockNodes[1] is neither"},
	}
	require.Len(t, got, len(want))
	for name, f := range want {
		f.Field = name
		require.Equal(t, f, got[name])
		require.Contains(t, err.Error(), f.Error())
	}
	require.NotContains(t, err.Error(), "hunter2")
	var one FieldError
	require.ErrorAs(t, err, &one)
	require.Equal(t, "URL", one.Field, "in the order of the struct")
}

// What another setting overrides is not judged: Kubernetes sets REDIS_PORT for every
// Service named redis.
func TestLoadIgnoresWhatIsOverridden(t *testing.T) {
	t.Parallel()
	const link = "tcp://10.0.171.239:6379"
	for name, env := range map[string]map[string]string{
		"port":                {"REDIS_URL": "redis://h", "REDIS_PORT": link},
		"host":                {"REDIS_URL": "redis://h", "REDIS_HOST": "$(HOST)"},
		"addresses":           {"REDIS_URL": "redis://h", "REDIS_ADDRS": link},
		"good addresses":      {"REDIS_URL": "redis://h", "REDIS_ADDRS": "a:1,b:2"},
		"database":            {"REDIS_URL": "redis://h/1", "REDIS_DB": "first"},
		"database as option":  {"REDIS_URL": "redis://h?db=1", "REDIS_DB": "-1"},
		"TLS":                 {"REDIS_URL": "rediss://h", "REDIS_TLS": "maybe"},
		"user":                {"REDIS_URL": "redis://u:p@h", "REDIS_USERNAME": "a b", "REDIS_PASSWORD": "a\nb"},
		"port with Sentinel":  {"REDIS_MASTER_NAME": "m", "REDIS_ADDRS": "a:1", "REDIS_PORT": link},
		"port with addresses": {"REDIS_CLUSTER": "true", "REDIS_ADDRS": "a:1", "REDIS_PORT": link},
	} {
		for _, prefix := range []string{"", "SESSIONS_"} {
			prefixed := make(map[string]string)
			for key, value := range env {
				prefixed[prefix+key] = value
			}
			_, err := fromEnv(t, prefix, prefixed)
			require.NoError(t, err, name)
		}
	}
	for name, env := range map[string]map[string]string{
		"Port":       {"REDIS_PORT": link},
		"Addrs":      {"REDIS_CLUSTER": "true", "REDIS_ADDRS": "a:1," + link, "REDIS_URL": ""},
		"DB":         {"REDIS_URL": "redis://h", "REDIS_DB": "first"},
		"TLSEnabled": {"REDIS_URL": "redis://h", "REDIS_TLS": "maybe"},
		"URL":        {"REDIS_CLUSTER": "true", "REDIS_ADDRS": "a:1", "REDIS_URL": "redis://h"}, // which of the two is meant?
	} {
		_, err := fromEnv(t, "", env)
		require.Contains(t, badFields(t, err), name)
	}
}

// Without a URL the error says where such a value comes from.
func TestLoadExplainsServiceLinks(t *testing.T) {
	t.Parallel()
	_, err := fromEnv(t, "SESSIONS_", map[string]string{"SESSIONS_REDIS_PORT": "tcp://10.0.171.239:6379"})
	require.EqualError(t, err, `config: invalid: Port (SESSIONS_REDIS_PORT) is "tcp://10.0.171.239:6379", allowed is a port from 1 to 65535 `+
		`(Kubernetes sets such a variable for a Service named sessions-redis: set SESSIONS_REDIS_URL, which wins over it, `+
		`or enableServiceLinks: false for the pod)`)
	_, err = fromEnv(t, "", map[string]string{"REDIS_HOST": "udp://[fe80::1]:6379"})
	require.Contains(t, badFields(t, err)["Host"].Hint, "a Service named redis:")
	_, err = fromEnv(t, "", map[string]string{"REDIS_PORT": "tcp://s3cr3t:6379"})
	require.NotContains(t, err.Error(), "s3cr3t", "Kubernetes gives addresses, not names")
}

// A server of the program's own: what the environment says about another is not read.
func TestLoadWith(t *testing.T) {
	t.Parallel()
	env := make(map[string]string)
	for _, f := range fields() {
		if f.server && f.env != "" {
			env[f.env] = "\"garbage\n$(X)"
		}
	}
	env["REDIS_KEY_PREFIX"] = "mine:"
	c, err := load(t.Context(), "", envconfig.MapLookuper(env), func(c *Config) { c.Host = "own " })
	require.NoError(t, err)
	want := Default()
	want.Host, want.KeyPrefix = "own", "mine:"
	require.Equal(t, want, c)

	_, err = load(t.Context(), "", envconfig.MapLookuper(nil), func(c *Config) { c.Port = "x" })
	require.Contains(t, badFields(t, err), "Port")
	env["REDIS_POOL_SIZE"] = "many"
	_, err = load(t.Context(), "", envconfig.MapLookuper(env), func(*Config) {})
	require.Contains(t, badFields(t, err), "PoolSize")
}

// A text that a shell, a file or a template has left something in.
func TestLoadTexts(t *testing.T) {
	t.Parallel()
	c, err := fromEnv(t, "", map[string]string{
		"REDIS_PASSWORD": "pw\n", "REDIS_URL": " redis://h:1\n", "REDIS_POOL_SIZE": " 7\n",
		"REDIS_READ_TIMEOUT": "5s\n", "REDIS_TLS": "false\n",
	})
	require.NoError(t, err)
	require.Equal(t, "pw", c.Password)
	require.Equal(t, "redis://h:1", c.URL)
	require.Equal(t, 7, c.PoolSize)
	require.Equal(t, 5*time.Second, c.ReadTimeout)

	for _, f := range fields() {
		if f.env == "" || f.typ().Kind() != reflect.String {
			continue
		}
		for value, allowed := range map[string]string{
			"s3c\nr3t": "line break", "s3cr3t\n\n": "line break", "\n": "line break",
			`"s3cr3t"`: "quotes", "'s3cr3t'": "quotes", "$(S3CR3T)": "variables", "${S3CR3T}": "variables", "{{ .S3CR3T }}": "variables",
		} {
			if (f.url || f.addr) && value == "s3cr3t\n\n" {
				continue // no blanks around an address mean anything
			}
			_, err := fromEnv(t, "", map[string]string{f.env: value})
			got := badFields(t, err)[f.name]
			require.Contains(t, got.Allowed, allowed, "%s %q", f.name, value)
			if f.secret || f.url {
				require.NotContains(t, err.Error(), "s3c")
			}
		}
	}
}

// A blank at the end of a password shows as WRONGPASS, hours later, and at a path as a
// file that is not there; a byte order mark means nothing anywhere.
func TestBlanksAroundTexts(t *testing.T) {
	t.Parallel()
	file := writeSecret(t, "s3cr3t")
	for _, f := range fields() {
		if f.json == "" || f.typ().Kind() != reflect.String || f.url || f.addr || f.name == "KeyPrefix" {
			continue
		}
		for _, blank := range []string{" ", "\t", " \t ", "\u00a0", "\u200b", "\u2060", "\ufeff\ufeff"} {
			for _, text := range []string{blank + "s3cr3t", "s3cr3t" + blank, blank} {
				_, fromEnvErr := fromEnv(t, "", map[string]string{f.env: text})
				value, err := json.Marshal(map[string]string{f.json: text})
				require.NoError(t, err)
				var c Config
				require.NoError(t, json.Unmarshal(value, &c))
				for _, err := range []error{fromEnvErr, c.Validate()} {
					require.Contains(t, badFields(t, err)[f.name].Allowed, "a value without a blank, tab or invisible character", "%s %q", f.name, text)
					if f.secret || f.path {
						require.NotContains(t, err.Error(), "s3cr3t")
					}
				}
				if f.name == "Password" {
					require.ErrorContains(t, c.Validate(), "percent-encoded in a URL, or by Credentials")
				}
			}
		}
	}
	c, err := fromEnv(t, "", map[string]string{
		"REDIS_PASSWORD": "\ufeffs3 cr3t", "REDIS_KEY_PREFIX": "\ufeffk ", "REDIS_POOL_SIZE": "\ufeff7", "REDIS_READ_TIMEOUT": "\ufeff5s",
		"REDIS_HOST": "\ufeffh\u00a0", "REDIS_TLS_CA_FILE": "\ufeff" + file, "REDIS_TLS": "\ufefffalse",
	})
	require.Equal(t, "TLSCAFile", badFields(t, err)["TLSCAFile"].Field, "it was found and is no certificate")
	require.Len(t, badFields(t, err), 1)
	require.Nil(t, c)

	// A password that has a blank can be given in a URL, for lock nodes as well.
	c = &Config{URL: "redis://:%20pw%09@h", LockNodes: []string{"redis://:%20pw@a:1"}}
	require.NoError(t, c.Validate())
	opts, err := ParseURL(c.URL)
	require.NoError(t, err)
	require.Equal(t, " pw\t", opts.Password)
	for _, blank := range []string{" ", "\t", "\u00a0", "\ufeff"} {
		raw := "redis://:" + blank + "s3cr3t@h"
		err := (&Config{URL: raw, LockNodes: []string{raw}}).Validate()
		require.Len(t, badFields(t, err), 2)
		require.ErrorContains(t, err, "percent-encoded")
		require.NotContains(t, err.Error(), "s3cr3t")
	}
}

// What does not decode must not show either: a URL easily ends up in the wrong variable.
func TestLoadHidesMisplacedSecrets(t *testing.T) {
	t.Parallel()
	const url = "redis://app:hunter2@redis.internal:6379/0"
	for _, f := range fields() {
		if f.env == "" {
			continue
		}
		_, err := fromEnv(t, "", map[string]string{f.env: url, "REDIS_POOL_SIZE": url})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2", f.env)
	}
}

// The only test that reads the real environment, and therefore not parallel.
func TestLoadFromEnvironment(t *testing.T) {
	for _, f := range fields() {
		t.Setenv("CFGTEST_"+f.env, "")
	}
	t.Setenv("CFGTEST_REDIS_HOST", "from-environment")
	c, err := Load(context.Background(), "CFGTEST_")
	require.NoError(t, err)
	require.Equal(t, "from-environment", c.Host)

	t.Setenv("CFGTEST_REDIS_PORT", "0")
	c, err = Load(context.Background(), "CFGTEST_")
	require.ErrorIs(t, err, ErrInvalid)
	require.Nil(t, c)
}

// Tags that contradict each other would only show as a missing default.
func TestTags(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	typ := reflect.TypeFor[Config]()
	for _, f := range fields() {
		if f.json == "" {
			require.Empty(t, f.env, f.name)
			continue
		}
		require.NotEmpty(t, f.env, f.name)
		require.False(t, seen[f.env] || seen[f.json], f.name)
		seen[f.env], seen[f.json] = true, true
		v, err := decodeEnv(t.Context(), f, envconfig.MapLookuper(nil))
		require.NoError(t, err, f.name)
		require.Equal(t, typ.Field(f.index).Type, v.Type(), f.name)
	}
}
