package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefault(t *testing.T) {
	t.Parallel()
	yes := true
	require.Equal(t, &Config{
		Host: "localhost", Port: "6379",
		PoolSize: 10, MaxIdleConns: 5, MinIdleConns: 2, ConnMaxIdleTime: 30 * time.Minute, Protocol: 3,
		DialTimeout: 5 * time.Second, ReadTimeout: 3 * time.Second, WriteTimeout: 3 * time.Second,
		PoolTimeout: 4 * time.Second, PingTimeout: time.Second,
		MaxRetries: 3, MinRetryBackoff: 8 * time.Millisecond, MaxRetryBackoff: 512 * time.Millisecond,
		KeyPrefix: "cache:", Required: &yes,
		NotificationBufferSize: 100, NotificationPolicy: "replay", NotificationHistorySize: 10000, NotificationHistoryTTL: time.Hour,
		NotificationHistoryBytes: 64 << 20, NotificationMaxEventSize: 1 << 20,
		StoreTimeout: 250 * time.Millisecond, StoreStateTimeout: 2 * time.Second,
		StoreNearBytes: 64 << 20, StoreNearMaxStaleness: time.Second,
		complete: true,
	}, Default())
	require.NoError(t, Default().Validate())
}

func TestWithDefaultsFillsZeros(t *testing.T) {
	t.Parallel()
	require.Equal(t, Default(), (&Config{}).WithDefaults())
	require.Equal(t, Default(), (*Config)(nil).WithDefaults())

	c := &Config{Host: "redis.internal", ReadTimeout: time.Minute}
	got := c.WithDefaults()
	require.Equal(t, "redis.internal", got.Host)
	require.Equal(t, time.Minute, got.ReadTimeout)
	require.Equal(t, "6379", got.Port)
	require.Equal(t, &Config{Host: "redis.internal", ReadTimeout: time.Minute}, c, "the original stays as it was")
}

func TestWithDefaultsKeepsExplicitZeros(t *testing.T) {
	t.Parallel()
	c := Default()
	c.MinIdleConns, c.MaxRetries, c.NotificationHistorySize, c.ReadTimeout, c.KeyPrefix = 0, 0, 0, 0, ""
	got := c.WithDefaults().WithDefaults()
	require.Equal(t, c, got)
	require.NotSame(t, c, got)
	require.NoError(t, got.Validate())
}

func TestMinusOneMeansNone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*Config{
		"hand-written": {
			MaxRetries: -1, MinRetryBackoff: -1, MaxRetryBackoff: -1, NotificationHistorySize: -1,
			ConnMaxLifetime: -1, ConnMaxIdleTime: -1, StoreNearEntries: -1,
		},
		"complete": func() *Config {
			c := Default()
			c.MaxRetries, c.MinRetryBackoff, c.MaxRetryBackoff, c.NotificationHistorySize = -1, -1, -1, -1
			c.ConnMaxLifetime, c.ConnMaxIdleTime, c.StoreNearEntries = -1, -1, -1
			return c
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, c.Validate())
			got := c.WithDefaults()
			require.Zero(t, got.MaxRetries)
			require.Zero(t, got.MinRetryBackoff)
			require.Zero(t, got.MaxRetryBackoff)
			require.Zero(t, got.NotificationHistorySize)
			require.Zero(t, got.ConnMaxLifetime)
			require.Zero(t, got.ConnMaxIdleTime)
			require.Zero(t, got.StoreNearEntries)
		})
	}
}

// A default must not make a setting beside it invalid.
func TestDefaultsFitWhatIsGiven(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		given              Config
		maxIdle, minIdle   int
		minPause, maxPause time.Duration
	}{
		"small pool":            {Config{PoolSize: 1}, 1, 1, 8 * time.Millisecond, 512 * time.Millisecond},
		"pool of three":         {Config{PoolSize: 3}, 3, 2, 8 * time.Millisecond, 512 * time.Millisecond},
		"few idle":              {Config{MaxIdleConns: 1}, 1, 1, 8 * time.Millisecond, 512 * time.Millisecond},
		"many idle in advance":  {Config{MinIdleConns: 8}, 8, 8, 8 * time.Millisecond, 512 * time.Millisecond},
		"both given":            {Config{MinIdleConns: 8, MaxIdleConns: 20}, 20, 8, 8 * time.Millisecond, 512 * time.Millisecond},
		"long shortest pause":   {Config{MinRetryBackoff: time.Second}, 5, 2, time.Second, time.Second},
		"short longest pause":   {Config{MaxRetryBackoff: time.Millisecond}, 5, 2, time.Millisecond, time.Millisecond},
		"no longest pause":      {Config{MaxRetryBackoff: -1}, 5, 2, 0, 0},
		"idle beyond the pool":  {Config{PoolSize: 4, MaxIdleConns: 50}, 50, 2, 8 * time.Millisecond, 512 * time.Millisecond},
		"invalid pool is as is": {Config{PoolSize: -1, MaxIdleConns: 1, MinIdleConns: 1}, 1, 1, 8 * time.Millisecond, 512 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tc.given.WithDefaults()
			require.Equal(t, tc.maxIdle, got.MaxIdleConns)
			require.Equal(t, tc.minIdle, got.MinIdleConns)
			require.Equal(t, tc.minPause, got.MinRetryBackoff)
			require.Equal(t, tc.maxPause, got.MaxRetryBackoff)
			if tc.given.PoolSize >= 0 {
				require.NoError(t, tc.given.Validate())
			}
		})
	}
}

func TestCopiesShareNothing(t *testing.T) {
	t.Parallel()
	yes := true
	c := &Config{Addrs: []string{"a:1"}, LockNodes: []string{"b:1"}, Required: &yes}
	got := c.WithDefaults()
	c.Addrs[0], c.LockNodes[0], yes = "x:1", "y:1", false
	require.Equal(t, []string{"a:1"}, got.Addrs)
	require.Equal(t, []string{"b:1"}, got.LockNodes)
	require.True(t, *got.Required)
}

func TestIsRequired(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	require.True(t, (*Config)(nil).IsRequired())
	require.True(t, (&Config{}).IsRequired())
	require.True(t, (&Config{Required: &yes}).IsRequired())
	require.False(t, (&Config{Required: &no}).IsRequired())
	require.False(t, (&Config{Required: &no}).WithDefaults().IsRequired())
}

// Whatever leads to a server is gone, and nothing else.
func TestForgetServer(t *testing.T) {
	t.Parallel()
	c := secretive()
	c.Port, c.MasterName, c.Cluster, c.SentinelUsername, c.TLSEnabled, c.TLSSkipVerify = "1", "m", true, "u", true, true
	c.TLSCAFile, c.TLSCertFile, c.TLSKeyFile, c.TLSServerName, c.PasswordFile = "a", "b", "c", "d", "e"
	c.DB, c.PoolSize = 3, 4
	c = *c.WithDefaults()
	c.ForgetServer()
	want := Default()
	want.PoolSize, want.MaxIdleConns, want.MinIdleConns = 4, 4, 2
	require.Equal(t, *want, c)
}

// Blanks and line breaks that can only be a mistake do not count.
func TestTextsAreTrimmed(t *testing.T) {
	t.Parallel()
	got := (&Config{
		URL: " redis://h:1 \n", Host: "\th ", Port: " 6379\r\n", Username: "u\n", Password: "\ufeffp w\n", SentinelPassword: "s\r\n",
		TLSCAFile: "\ufeff/ca\n", PasswordFile: "/pw\n", TLSServerName: " n ", MasterName: "m\n", ClientName: "c\n", KeyPrefix: "k: \n",
		NotificationPolicy: "replay\n", Addrs: []string{" a:1", "\ufeffb:2\n"}, LockNodes: []string{"\u00a0redis://c:3\u200b", "d:4\n"},
	}).WithDefaults()
	want := (&Config{
		URL: "redis://h:1", Host: "h", Port: "6379", Username: "u", Password: "p w", SentinelPassword: "s",
		TLSCAFile: "/ca", PasswordFile: "/pw", TLSServerName: "n", MasterName: "m", ClientName: "c", KeyPrefix: "k: ",
		NotificationPolicy: "replay", Addrs: []string{"a:1", "b:2"}, LockNodes: []string{"redis://c:3", "d:4"},
	}).WithDefaults()
	require.Equal(t, want, got)
	require.Equal(t, "redis://h:1", want.URL)

	given := &Config{Addrs: []string{" a:1"}}
	given.WithDefaults()
	require.Equal(t, []string{" a:1"}, given.Addrs, "the original stays as it was")
}
