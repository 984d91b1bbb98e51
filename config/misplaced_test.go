package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/sethvargo/go-envconfig"
	"github.com/stretchr/testify/require"
)

// misplaced returns texts with a password in them, as they end up in a variable that
// takes something else: connection strings of other libraries, forgotten escapes, lists
// split in the middle of the password.
func misplaced(pw string) []string {
	forms := []string{
		"app:%,et@h:6379", "app:%,et@h:6379,h2:6379", "redis://app:%,et@h:6379", "redis://:x@a:1,redis://app:%,et@h:6379",
		"app:%@h:6379", "//app:%@h", "redis:app:%@h:6379", "redis//app:%@h:6379", "redis+sentinel://app:%@h:6379",
		"h:6379,password=%,ssl=True", "h:6379,password=%", "h:6379?password=%", "password=%;h", "h:6379;password=%", "h 6379 %",
		"host=h password=%", "h:6379&password=%", "redis://h:6379?password=%", "redis://h:6379,password=%", "unix:///run/x.sock,password=%",
		"redis://app:%/x@h", "redis://app:%?x@h", "redis://app:%#x@h", "redis://app:% @h", "redis://app:%\\@h", "redis://app:%\r\n@h",
		"'redis://app:%@h'", "tcp://app:%@h:6379", "-----BEGIN PRIVATE KEY-----\n%\n-----END PRIVATE KEY-----\n",
	}
	if !isPort(pw) && strings.Trim(pw, "0123456789") == "" {
		forms = append(forms, "redis://app:%", "unix://app:%", "redis://app:%,h:1", "app:%", "redis://h/%")
	}
	for i, form := range forms {
		forms[i] = strings.ReplaceAll(form, "%", pw)
	}
	return forms
}

func TestMisplacedSecretsNeverShow(t *testing.T) {
	t.Parallel()
	for _, pw := range []string{"Wc90", "1234577"} {
		for _, text := range misplaced(pw) {
			for _, f := range fields() {
				anyText := f.typ().Kind() == reflect.String && !f.addr && !f.url && !f.user && !f.secret
				if f.env == "" || anyText && text == "app:"+pw {
					continue // good as a key prefix, a client name and a path
				}
				topologies := []map[string]string{{}}
				if f.addr || f.url {
					topologies = append(topologies, map[string]string{"REDIS_CLUSTER": "true"}, map[string]string{"REDIS_MASTER_NAME": "m"})
				}
				for _, topology := range topologies {
					env := map[string]string{f.env: text}
					for name, value := range topology {
						if name != f.env {
							env[name] = value
						}
					}
					c, err := load(t.Context(), "", envconfig.MapLookuper(env), nil)
					if err != nil {
						require.NotContains(t, err.Error(), pw, "%s %s", f.env, text)
						continue
					}
					dump, err := json.Marshal(c)
					require.NoError(t, err)
					require.NotContains(t, string(dump)+c.String(), pw, "%s %s", f.env, text)
				}
			}
		}
	}
}

// A value of the wrong kind may hold anything, so an error says its kind alone.
func TestJSONOfTheWrongKindNeverShows(t *testing.T) {
	t.Parallel()
	for _, f := range fields() {
		if f.json == "" {
			continue
		}
		for value, shown := range map[string]string{
			`{"host":"h","password":"Wc90"}`:   "an object",
			`[{"host":"h","password":"Wc90"}]`: "a list",
			`["h:1",{"password":"Wc90"}]`:      "a list",
		} {
			var c Config
			err := json.Unmarshal([]byte(`{"`+f.json+`":`+value+`}`), &c)
			require.Equal(t, shown, badFields(t, err)[f.name].Value, "%s %s", f.json, value)
			require.NotContains(t, err.Error(), "Wc90")
		}
		var c Config
		for _, text := range append(misplaced("Wc90"), misplaced("1234577")...) {
			value, err := json.Marshal(map[string]string{f.json: text})
			require.NoError(t, err)
			if err = json.Unmarshal(value, &c); err == nil {
				continue // judged by Validate, as above
			}
			require.NotContains(t, err.Error(), "Wc90", "%s %s", f.json, text)
			require.NotContains(t, err.Error(), "1234577", "%s %s", f.json, text)
		}
	}
	var c Config
	err := json.Unmarshal([]byte(`{"pool_size":"Wc90","host":1234577,"addrs":"h:1?password=Wc90"}`), &c)
	require.EqualError(t, err, "config: invalid: Host (REDIS_HOST) is a number, allowed is text; "+
		"PoolSize (REDIS_POOL_SIZE) is text, allowed is a whole number, 1 to 100000; Addrs (REDIS_ADDRS) is text, allowed is a list of addresses as text")
}

// What shows of a list: all of it where every element is good, else nothing.
func TestListsShowWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for text, shown := range map[string]string{
		"a:1,b:2,[::1]:3":                  `["a:1" "b:2" "[::1]:3"]`,
		"a:1,redis://u:Wc90@b:2":           `["a:1" "redis://REDACTED@b:2"]`,
		"a:1,b":                            `["REDACTED"]`,
		"a:1,b:65536":                      `["REDACTED"]`,
		"a:1,u@b:2":                        `["REDACTED"]`,
		"redis://app:12345,et@h:6379":      `["REDACTED"]`,
		"a:1,tcp://10.0.171.239:6379":      `["a:1" "tcp://10.0.171.239:6379"]`,
		"a:1,tcp://app.10.0.171.239:6379,": `["REDACTED"]`,
	} {
		c := &Config{LockNodes: strings.Split(strings.TrimSuffix(text, ","), ",")}
		require.Equal(t, "config.Config{LockNodes:"+shown+"}", c.String(), text)
	}
}
