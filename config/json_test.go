package config

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUnmarshalJSON(t *testing.T) {
	t.Parallel()
	var c Config
	require.NoError(t, json.Unmarshal([]byte(`{
		"url": "redis://redis.internal/1", "host": "h", "port": "6380", "password": "pw", "db": 2, "pool_size": 3,
		"tls_enabled": true, "dial_timeout": "1.5s", "read_timeout": "2s", "ping_timeout": 0, "min_retry_backoff": -1, "max_retry_backoff": " 1s\n", "addrs": ["a:1", "b:2"],
		"lock_nodes": ["c:3"], "required": false, "Key_Prefix": "x:", "cluster": null, "unknown": {"a": 1}
	}`), &c))
	no := false
	require.Equal(t, Config{
		URL: "redis://redis.internal/1", Host: "h", Port: "6380", Password: "pw", DB: 2, PoolSize: 3,
		TLSEnabled: true, DialTimeout: 1500 * time.Millisecond, ReadTimeout: 2 * time.Second,
		MinRetryBackoff: -1, MaxRetryBackoff: time.Second,
		Addrs: []string{"a:1", "b:2"}, LockNodes: []string{"c:3"}, Required: &no, KeyPrefix: "x:",
	}, c)
}

// Decoding over Default keeps what the text does not name, and its zeros are meant.
func TestUnmarshalJSONOverDefault(t *testing.T) {
	t.Parallel()
	c := Default()
	require.NoError(t, json.Unmarshal([]byte(`{"min_idle_conns": 0}`), c))
	require.Equal(t, "localhost", c.Host)
	require.Zero(t, c.WithDefaults().MinIdleConns)
}

func TestUnmarshalJSONReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	c := Config{Host: "before"}
	err := json.Unmarshal([]byte(`{
		"host": "after", "password": 20212223, "db": "two", "read_timeout": "soon", "ping_timeout": 1.5,
		"addrs": "a:1", "lock_nodes": [1], "required": "no", "url": 7
	}`), &c)
	got := badFields(t, err)
	require.Len(t, got, 8)
	require.Equal(t, FieldError{Field: "Password", Variable: "REDIS_PASSWORD", Value: "a number", Allowed: "text"}, got["Password"])
	require.Equal(t, "text", got["DB"].Value)
	require.Equal(t, `"soon"`, got["ReadTimeout"].Value)
	require.Equal(t, `"1.5"`, got["PingTimeout"].Value)
	require.Equal(t, "text", got["Addrs"].Value)
	require.Equal(t, "a list", got["LockNodes"].Value)
	require.NotContains(t, err.Error(), "20212223")
	require.Equal(t, Config{Host: "before"}, c, "unchanged after an error")
}

func TestUnmarshalJSONOfSomethingElse(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`"hunter2"`, `["hunter2"]`, `12`, `{"password": "hunter2"`} {
		var c Config
		err := c.UnmarshalJSON([]byte(text))
		require.ErrorIs(t, err, ErrInvalid, text)
		require.NotContains(t, err.Error(), "hunter2")
	}
	var c Config
	require.NoError(t, json.Unmarshal([]byte(`null`), &c))
}

// One rule for durations, in JSON, environment and URL; and every error shows how it is right.
func TestDurationsNeedAUnit(t *testing.T) {
	t.Parallel()
	for text, hint := range map[string]string{
		`5`: `a number needs its unit: "5s"`, `"5"`: `a number needs its unit: "5s"`,
		`3000000000`: `a number needs its unit: "3s"`, `"\"5s\""`: "the quotes around it are part of the value",
		`5.5`: `a number needs its unit: "5.5s"`, `0.25`: `a number needs its unit: "0.25s"`,
		`5e9`: `a number needs its unit: "5s"`, `1.5E+9`: `a number needs its unit: "1.5s"`, `1500000000`: `a number needs its unit: "1.5s"`,
		`"5 s"`: `written "5s"`, `" 1h 30M\t"`: `written "1h30m"`, `"500 MS"`: `written "500ms"`,
		`"soon"`: "", `true`: "", `-7`: "", `1e300`: "", `"NaN"`: "", `"inf"`: "", `"12345 77"`: "", `"-5 s"`: "",
	} {
		var c Config
		got := badFields(t, json.Unmarshal([]byte(`{"read_timeout": `+text+`}`), &c))
		require.Equal(t, hint, got["ReadTimeout"].Hint, text)
		require.Equal(t, "a duration such as 500ms, 5s or 1h, -1 or 0 for none, 1ms to 24h", got["ReadTimeout"].Allowed, text)

		_, err := fromEnv(t, "", map[string]string{"REDIS_READ_TIMEOUT": unquoted(json.RawMessage(text))})
		require.Equal(t, hint, badFields(t, err)["ReadTimeout"].Hint, text)
	}
	_, err := fromEnv(t, "", map[string]string{"REDIS_READ_TIMEOUT": "5"})
	require.EqualError(t, err, `config: invalid: ReadTimeout (REDIS_READ_TIMEOUT) is "5", `+
		`allowed is a duration such as 500ms, 5s or 1h, -1 or 0 for none, 1ms to 24h (a number needs its unit: "5s")`)
	for _, name := range urlDurations() {
		err := (&Config{URL: "redis://h?" + name + "=5"}).Validate()
		require.Contains(t, badFields(t, err)["URL"].Allowed, "a URL with "+name+" ")
		require.Contains(t, badFields(t, err)["URL"].Allowed, ", as a duration with its unit such as 5s")
		require.NoError(t, (&Config{URL: "redis://h?" + name + "=5s"}).Validate())
	}
}

// A port can be meant by a number as well.
func TestPortAsNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`6380`: "6380", `"6380"`: "6380"} {
		var c Config
		require.NoError(t, json.Unmarshal([]byte(`{"port": `+text+`}`), &c))
		require.Equal(t, want, c.Port)
	}
	for _, text := range []string{`0`, `65536`, `-1`, `6380.0`, `6.38e3`, `true`, `{}`} {
		var c Config
		require.Contains(t, badFields(t, json.Unmarshal([]byte(`{"port": `+text+`}`), &c)), "Port", text)
		require.Error(t, json.Unmarshal([]byte(`{"host": 6380}`), &c), "no other text")
	}
	for text, shown := range map[string]string{`70000`: `"70000"`, `6379.5`: `"6379.5"`, `-1`: `"-1"`, `true`: `true`, `[6379]`: "a list"} {
		var c Config
		err := json.Unmarshal([]byte(`{"port": `+text+`}`), &c)
		require.EqualError(t, err, "config: invalid: Port (REDIS_PORT) is "+shown+", allowed is a port from 1 to 65535, such as 6379")
	}
}

// A number of the wrong form: the error says what numbers are allowed, and how it is
// right where that can be known.
func TestNumbersOfTheWrongForm(t *testing.T) {
	t.Parallel()
	for _, f := range fields() {
		if f.json == "" || f.typ().Kind() == reflect.String || f.typ().Kind() == reflect.Slice {
			continue
		}
		isInt, texts := f.typ().Kind() == reflect.Int, map[string]string{`{}`: "", `[1]`: "", `"Wc90"`: "", `"\"Wc90"`: ""}
		switch {
		case isInt:
			texts[`2.0`], texts[`1e3`], texts[`2.5`], texts[`1e300`] = "written 2", "written 1000", "", ""
			texts[`"1234577"`], texts[`99999999999999999999`] = "without the quotes around it", ""
		case f.isDuration():
			texts[`5`], texts[`5e9`], texts[`"5 s"`] = `a number needs its unit: "5s"`, `a number needs its unit: "5s"`, `written "5s"`
		default:
			texts[`"true"`], texts[`1`], texts[`"'true'"`] = "without the quotes around it", "", "the quotes around it are part of the value"
		}
		for text, hint := range texts {
			var c Config
			err := json.Unmarshal([]byte(`{"`+f.json+`": `+text+`}`), &c)
			got := badFields(t, err)[f.name]
			require.Equal(t, hint, got.Hint, "%s %s", f.name, text)
			if isInt {
				require.Equal(t, "a whole number, "+limits()[f.name].allowed, got.Allowed)
				require.NotContains(t, err.Error(), "1234577", "it may be a password")
			}
			if text[0] == '{' || text[0] == '[' || text[0] == '"' && !f.isDuration() {
				continue // no text in the environment
			}
			_, err = fromEnv(t, "", map[string]string{f.env: unquoted(json.RawMessage(text))})
			if !f.isDuration() && !isInt {
				continue // there 1 is true
			}
			got = badFields(t, err)[f.name]
			require.Equal(t, hint, got.Hint, "%s %s", f.env, text)
			require.Contains(t, got.Allowed, map[bool]string{true: limits()[f.name].allowed, false: "such as 500ms"}[isInt])
		}
	}
}

// Every number and duration has its bounds, and nothing else.
func TestLimits(t *testing.T) {
	t.Parallel()
	bounds := limits()
	for _, f := range fields() {
		_, ok := bounds[f.name]
		require.Equal(t, f.isDuration() || f.typ().Kind() == reflect.Int, ok, f.name)
		delete(bounds, f.name)
	}
	require.Empty(t, bounds)
}

// Without secrets, what was written reads back.
func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	in := Default()
	in.Addrs, in.LockNodes = []string{"a:1"}, []string{"b:2"}
	text, err := json.Marshal(in)
	require.NoError(t, err)
	out := Default()
	require.NoError(t, json.Unmarshal(text, out))
	require.Equal(t, in, out)

	var names map[string]any
	require.NoError(t, json.Unmarshal(text, &names))
	for sf := range reflect.TypeFor[Config]().Fields() {
		if name := sf.Tag.Get("json"); name != "-" && name != "" {
			require.Contains(t, names, name)
		}
	}
}
