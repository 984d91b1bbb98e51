package config

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// marker is part of every secret of secretive and of nothing else.
const marker = "hunter2"

// secretive returns a Config with a secret wherever one can be.
func secretive() Config {
	return Config{
		URL:              "redis://app-" + marker + ":pw-" + marker + "@redis.internal:6380/1?client_name=q-" + marker,
		Username:         "app",
		Password:         "main-" + marker,
		SentinelPassword: "sentinel-" + marker,
		LockNodes: []string{
			"a:1", "redis://:lock-" + marker + "@b:2", "user:" + marker + "@c:3", "redis://u:pa/" + marker + "@d:4",
		},
		Addrs:               []string{"user:" + marker + "@e:5", "f:6"},
		Host:                "user:" + marker + "@host",
		TLSConfig:           &tls.Config{ServerName: marker}, //nolint:gosec // never used
		CredentialsProvider: provider{secret: marker},
		Credentials:         func(context.Context) (string, string, error) { return marker, marker, nil },
		PasswordFile:        marker,
		TLSCAFile:           marker,
		TLSCertFile:         "-----BEGIN PRIVATE KEY-----\n" + marker,
		TLSKeyFile:          "MIIEvQ/" + marker + "+IBADAN=",
		Dialer:              func(context.Context, string, string) (net.Conn, error) { return nil, nil },
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	c := secretive()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10v", "%-5s"} {
		for name, v := range map[string]any{
			"value":    c,
			"pointer":  &c,
			"slice":    []Config{c},
			"pointers": []*Config{&c},
			"map":      map[string]Config{"a": c},
			"field":    struct{ Config Config }{c},
			"embedded": struct{ *Config }{&c},
			"any":      struct{ C any }{&c},
		} {
			text := fmt.Sprintf(verb, v)
			require.NotContains(t, text, marker, "%s of a %s", verb, name)
		}
	}
	require.NotContains(t, c.String(), marker)
	require.NotContains(t, c.GoString(), marker)
	for _, none := range []any{(*Config)(nil)} {
		require.Equal(t, "<nil>", fmt.Sprint(none))
	}
}

func TestStringShowsTheRest(t *testing.T) {
	t.Parallel()
	c := Config{
		URL: "redis://u:p@redis.internal:6380/1?db=2", Username: "app", Password: "x", PoolSize: 3,
		LockNodes: []string{"a:1", "unix://:pw@/run/redis.sock"}, ReadTimeout: 1500000000,
	}
	require.Equal(t, `config.Config{URL:"redis://REDACTED@redis.internal:6380/1?REDACTED", Username:"app", Password:"REDACTED", `+
		`PoolSize:3, ReadTimeout:1.5s, LockNodes:["a:1" "unix://REDACTED@/run/redis.sock"]}`, c.String())
	require.Equal(t, c.String(), fmt.Sprintf("%#v", &c))
}

func TestSecretsNeverMarshal(t *testing.T) {
	t.Parallel()
	c := secretive()
	for name, v := range map[string]any{"value": c, "pointer": &c, "field": struct{ C Config }{c}} {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		require.NotContains(t, string(text), marker, name)
		require.Contains(t, string(text), `"password":"REDACTED"`)
	}
}

func TestSecretsNeverLog(t *testing.T) {
	t.Parallel()
	c := secretive()
	var out bytes.Buffer
	for _, enc := range []zapcore.Encoder{
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
		zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
	} {
		log := zap.New(zapcore.NewCore(enc, zapcore.AddSync(&out), zap.DebugLevel))
		log.Info("config", zap.Any("value", c), zap.Any("pointer", &c), zap.Object("object", c), zap.Object("object pointer", &c),
			zap.Reflect("reflect", c), zap.Stringer("stringer", c), zap.Inline(c), zap.Any("slice", []Config{c}))
		log.Sugar().Infow("config", "value", c, "pointer", &c)
		log.Sugar().Info(c, &c)
	}
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(h).Info("config", "value", c, "pointer", &c, "group", slog.GroupValue(slog.Any("c", c)))
	}
	require.NotContains(t, out.String(), marker)
	require.Contains(t, out.String(), `"password":"REDACTED"`)
	require.Contains(t, out.String(), "redis.internal")
}

func TestSecretsNeverInErrors(t *testing.T) {
	t.Parallel()
	c := secretive()
	c.Password, c.PoolSize, c.TLSConfig = marker, -1, nil
	err := c.Validate()
	require.Error(t, err)
	require.NotContains(t, err.Error(), marker)
	require.NotContains(t, fmt.Sprintf("%+v %#v", err, err), marker)
}

// What cannot be a key stays readable.
func TestPathsOfTLSFilesShow(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/etc/tls/key", "certs/key.pem", "./key", "../key", "key.pem"} {
		err := (&Config{TLSEnabled: true, TLSCAFile: path, TLSCertFile: path, TLSKeyFile: path}).Validate()
		for _, name := range []string{"TLSCAFile", "TLSCertFile", "TLSKeyFile"} {
			require.Equal(t, strconv.Quote(path), badFields(t, err)[name].Value)
		}
	}
}

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"redis://localhost":                      "redis://localhost",
		"redis://localhost:6379/3":               "redis://localhost:6379/3",
		"rediss://u:p@h:1":                       "rediss://REDACTED@h:1",
		"redis://u@h:1":                          "redis://REDACTED@h:1",
		"redis://:p@h:1/2?db=3":                  "redis://REDACTED@h:1/2?REDACTED",
		"redis://u:p@ss@h:1":                     "redis://REDACTED@h:1",
		"redis://u:p/ss@h:1":                     "redis://REDACTED",
		"redis://u:p?ss@h:1":                     "redis://REDACTED",
		"redis://u:1#ss@h:1":                     "redis://REDACTED",
		"redis://h:1/x":                          "redis://h:1/REDACTED",
		"redis://h:1#x":                          "redis://REDACTED",
		"redis://u:%zz@h":                        "redis://REDACTED",
		"valkeys://u:p@h:1":                      "valkeys://REDACTED@h:1",
		"valkey://h1:1,h2:2":                     "valkey://h1:1,h2:2",
		"redis://h1,h2":                          "redis://h1,h2",
		"redis://:12":                            "redis://REDACTED",
		"redis://[fe80::1%25eth0]:1":             "redis://[fe80::1%25eth0]:1",
		"unix://:p@/run/redis.sock?db=1":         "unix://REDACTED@/run/redis.sock?REDACTED",
		"http://u:p@h":                           "http://REDACTED",
		"0123456789://x":                         "REDACTED",
		"u:p@h:1":                                "REDACTED",
		"h:1":                                    "h:1",
		"just words":                             "REDACTED",
		"redis://" + string([]byte{0x7f}) + "@h": "redis://REDACTED",
	} {
		require.Equal(t, want, redactURL(raw), raw)
	}
}
