package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A whole number is decimal everywhere: 010 is neither 8 nor 10.
func TestNumbersAreDecimal(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"010", "0x1", "0X1", "0b11", "0o7", "1_0", "+1", "00", "-01", "1e1", "1.0", "١"} {
		for _, f := range fields() {
			if f.typ().Kind() != reflect.Int {
				continue
			}
			_, err := fromEnv(t, "", map[string]string{f.env: text})
			require.Contains(t, badFields(t, err)[f.name].Allowed, "a whole number, ", "%s=%s", f.env, text)
			var c Config
			require.ErrorIs(t, json.Unmarshal([]byte(`{"`+f.json+`":"`+text+`"}`), &c), ErrInvalid)
			require.Error(t, json.Unmarshal([]byte(`{"`+f.json+`":`+text+`}`), &c))
		}
		for _, name := range urlOptions() {
			if name != "client_name" {
				err := (&Config{URL: "rediss://h?" + name + "=" + urlEscape(text)}).Validate()
				require.Contains(t, badFields(t, err)["URL"].Allowed, "a URL with ", "%s=%s", name, text)
			}
		}
		require.Error(t, (&Config{URL: "redis://h/" + text}).Validate(), text)
		require.Error(t, (&Config{LockNodes: []string{"a:1", "redis://h/" + text}}).Validate(), text)
	}
	_, err := fromEnv(t, "", map[string]string{"REDIS_DB": "010"})
	require.Equal(t, "written 10", badFields(t, err)["DB"].Hint)

	c, err := fromEnv(t, "", map[string]string{"REDIS_DB": " 10\n", "REDIS_MAX_RETRIES": "-1", "REDIS_MIN_IDLE_CONNS": "0"})
	require.NoError(t, err)
	require.Equal(t, 10, c.DB)
	require.Zero(t, c.MaxRetries)
	require.NoError(t, (&Config{URL: "redis://h/10?pool_size=20&max_retries=-1"}).Validate())
}

// urlEscape keeps a plus from being a blank.
func urlEscape(text string) string {
	out := ""
	for _, b := range []byte(text) {
		out += fmt.Sprintf("%%%02x", b)
	}
	return out
}

// -1 means no limit to the time for a reply, however it is written.
func TestNoReadTimeout(t *testing.T) {
	t.Parallel()
	c, err := fromEnv(t, "", map[string]string{"REDIS_READ_TIMEOUT": "-1", "REDIS_WRITE_TIMEOUT": "-1"})
	require.NoError(t, err)
	require.Equal(t, []time.Duration{0, 0}, []time.Duration{c.ReadTimeout, c.WriteTimeout})

	c = &Config{}
	require.NoError(t, json.Unmarshal([]byte(`{"read_timeout":-1,"write_timeout":"-1"}`), c))
	require.NoError(t, c.Validate())
	c = c.WithDefaults()
	require.Equal(t, []time.Duration{0, 0}, []time.Duration{c.ReadTimeout, c.WriteTimeout})

	require.NoError(t, (&Config{URL: "redis://h?read_timeout=-1&write_timeout=-1"}).Validate())
	for _, name := range []string{"READ_TIMEOUT", "WRITE_TIMEOUT"} {
		_, err = fromEnv(t, "", map[string]string{"REDIS_" + name: "-2s"})
		require.ErrorContains(t, err, "-1 or 0 for none")
	}
}

// A list of nothing is not the same as no list: without its lock nodes a program would lock
// on the main server, and without its addresses it would look for a Cluster on localhost.
func TestListOfNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{",", ",,", " , ", " "} {
		_, err := fromEnv(t, "", map[string]string{"REDIS_CLUSTER": "true", "REDIS_ADDRS": text})
		require.Contains(t, badFields(t, err), "Addrs", "%q", text)
		_, err = fromEnv(t, "", map[string]string{"REDIS_LOCK_NODES": text})
		require.Contains(t, badFields(t, err), "LockNodes", "%q", text)
	}
	_, err := fromEnv(t, "", map[string]string{"REDIS_ADDRS": ",", "REDIS_CLUSTER": "true"})
	require.Equal(t, "there is none in it", badFields(t, err)["Addrs"].Hint)
	c, err := fromEnv(t, "", map[string]string{"REDIS_ADDRS": "a:1,,b:2,", "REDIS_CLUSTER": "true"})
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, c.Addrs)
}
