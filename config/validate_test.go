package config

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	ca, cert, key := writeTLSFiles(t)
	for name, c := range map[string]*Config{
		"nothing":                   {},
		"nil":                       nil,
		"IPv6":                      {Host: "::1"},
		"IPv6 in brackets":          {Host: "[::1]"},
		"underscore in a host name": {Host: "my_redis"},
		"highest port":              {Port: "65535"},
		"URL":                       {URL: "redis://user:p%40ss@redis.internal:6380/5?pool_size=3&read_timeout=1s"},
		"URL without a port":        {URL: "redis://redis.internal"},
		"URL with IPv6":             {URL: "rediss://[::1]:6380"},
		"URL of a socket":           {URL: "unix:///run/redis.sock?db=2"},
		"URL in a Cluster":          {URL: "redis://redis.internal:6379", Cluster: true},
		"Cluster":                   {Cluster: true, Addrs: []string{"a:1", "[::1]:2"}},
		"Cluster by host":           {Cluster: true, Host: "redis.internal"},
		"Sentinel":                  {MasterName: "m", Addrs: []string{"a:26379"}, DB: 4, SentinelUsername: "u", SentinelPassword: "p"},
		"lock nodes":                {LockNodes: []string{"a:1", "redis://:pw@b:1", "unix:///c.sock"}},
		"two lock nodes":            {LockNodes: []string{"a:1", "a:2"}},
		"TLS files":                 {TLSEnabled: true, TLSCAFile: ca, TLSCertFile: cert, TLSKeyFile: key, TLSServerName: "x"},
		"TLS files by URL":          {URL: "rediss://x", TLSCAFile: ca},
		"TLS by URL in capitals":    {URL: "REDISS://x", TLSCAFile: ca},
		"TLSConfig wins":            {TLSConfig: &tls.Config{}, TLSCAFile: "/does/not/exist"}, //nolint:gosec // never used
		"client name":               {ClientName: "orders-1"},
		"prefix with a space":       {KeyPrefix: "my app:"},
		"large sizes":               {PoolSize: maxConns, NotificationBufferSize: 1 << 20, NotificationHistorySize: 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, c.Validate())
		})
	}
}

func TestValidateRejects(t *testing.T) {
	t.Parallel()
	ca, cert, key := writeTLSFiles(t)
	_, _, otherKey := writeTLSFiles(t)
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	require.NoError(t, os.WriteFile(garbage, []byte("no certificate"), 0o600))
	const missing = "/does/not/exist.pem"

	for name, tc := range map[string]struct {
		config Config
		fields string // comma separated, in the order of the struct
	}{
		"port not a number":           {Config{Port: "redis"}, "Port"},
		"port 0":                      {Config{Port: "0"}, "Port"},
		"port too high":               {Config{Port: "65536"}, "Port"},
		"negative port":               {Config{Port: "-1"}, "Port"},
		"port with a sign":            {Config{Port: "+6379"}, "Port"},
		"host with a port":            {Config{Host: "localhost:6379"}, "Host"},
		"host is a URL":               {Config{Host: "redis://localhost"}, "Host"},
		"host with a space":           {Config{Host: "local host"}, "Host"},
		"negative DB":                 {Config{DB: -1}, "DB"},
		"negative pool":               {Config{PoolSize: -1}, "PoolSize"},
		"huge pool":                   {Config{PoolSize: 1 << 40}, "PoolSize"},
		"negative idle":               {Config{MaxIdleConns: -1, MinIdleConns: -1}, "MaxIdleConns,MinIdleConns"},
		"min idle > max idle":         {Config{MaxIdleConns: 3, MinIdleConns: 4}, "MinIdleConns"},
		"negative timeouts":           {Config{DialTimeout: -1, ReadTimeout: -1, WriteTimeout: -1, PoolTimeout: -1, PingTimeout: -1}, "DialTimeout,ReadTimeout,WriteTimeout,PoolTimeout,PingTimeout"},
		"retries below -1":            {Config{MaxRetries: -2}, "MaxRetries"},
		"backoff below -1":            {Config{MinRetryBackoff: -2, MaxRetryBackoff: -time.Second}, "MinRetryBackoff,MaxRetryBackoff"},
		"min backoff > max backoff":   {Config{MinRetryBackoff: 2 * time.Second, MaxRetryBackoff: time.Second}, "MinRetryBackoff"},
		"pause but no longest pause":  {Config{MinRetryBackoff: time.Second, MaxRetryBackoff: -1}, "MinRetryBackoff"},
		"negative buffer":             {Config{NotificationBufferSize: -1}, "NotificationBufferSize"},
		"huge buffer":                 {Config{NotificationBufferSize: 1<<20 + 1}, "NotificationBufferSize"},
		"unknown policy":              {Config{NotificationPolicy: "drop"}, "NotificationPolicy"},
		"policy in capitals":          {Config{NotificationPolicy: "Replay"}, "NotificationPolicy"},
		"negative history":            {Config{NotificationHistorySize: -2, NotificationHistoryTTL: -1}, "NotificationHistorySize,NotificationHistoryTTL"},
		"short history":               {Config{NotificationHistoryTTL: time.Millisecond}, "NotificationHistoryTTL"},
		"URL of another scheme":       {Config{URL: "http://localhost:6379"}, "URL"},
		"URL without a scheme":        {Config{URL: "localhost:6379"}, "URL"},
		"URL without slashes":         {Config{URL: "redis:app:secret@redis.internal:6380"}, "URL"},
		"URL with one slash":          {Config{URL: "redis:/redis.internal:6380"}, "URL"},
		"URL with a bad port":         {Config{URL: "redis://localhost:99999"}, "URL"},
		"URL with a bad escape":       {Config{URL: "redis://user:%zz@localhost"}, "URL"},
		"URL with a bad database":     {Config{URL: "redis://localhost/first"}, "URL"},
		"URL with a negative DB":      {Config{URL: "redis://localhost/?db=-1"}, "URL"},
		"URL with an unknown option":  {Config{URL: "redis://localhost?color=red"}, "URL"},
		"URL with a bad option":       {Config{URL: "redis://localhost?read_timeout=soon"}, "URL"},
		"URL with a negative pool":    {Config{URL: "redis://localhost?pool_size=-3"}, "URL"},
		"URL with protocol 4":         {Config{URL: "redis://localhost?protocol=4"}, "URL"},
		"URL with a bad query":        {Config{URL: "redis://localhost?db=%zz"}, "URL"},
		"URL without a path":          {Config{URL: "unix://"}, "URL"},
		"URL beside addresses":        {Config{URL: "redis://localhost", Cluster: true, Addrs: []string{"a:1"}}, "URL"},
		"URL beside Sentinel":         {Config{URL: "redis://localhost", MasterName: "m", Addrs: []string{"a:1"}}, "URL"},
		"URL with DB in Cluster":      {Config{URL: "redis://localhost/1", Cluster: true}, "URL"},
		"socket in Cluster":           {Config{URL: "unix:///run/redis.sock", Cluster: true}, "URL"},
		"DB in Cluster":               {Config{DB: 1, Cluster: true}, "DB"},
		"Sentinel without addresses":  {Config{MasterName: "m"}, "Addrs"},
		"Sentinel and Cluster":        {Config{MasterName: "m", Addrs: []string{"a:1"}, Cluster: true}, "MasterName"},
		"master name with a space":    {Config{MasterName: "my master", Addrs: []string{"a:1"}}, "MasterName"},
		"addresses without a use":     {Config{Addrs: []string{"a:1"}}, "Addrs"},
		"address without a port":      {Config{Cluster: true, Addrs: []string{"a:1", "b"}}, "Addrs"},
		"address is a URL":            {Config{Cluster: true, Addrs: []string{"redis://a:1"}}, "Addrs"},
		"sentinel password alone":     {Config{SentinelPassword: "x"}, "SentinelPassword"},
		"sentinel user alone":         {Config{SentinelUsername: "x"}, "SentinelUsername"},
		"CA file missing":             {Config{TLSEnabled: true, TLSCAFile: missing}, "TLSCAFile"},
		"CA file is a folder":         {Config{TLSEnabled: true, TLSCAFile: t.TempDir()}, "TLSCAFile"},
		"CA file with garbage":        {Config{TLSEnabled: true, TLSCAFile: garbage}, "TLSCAFile"},
		"certificate without key":     {Config{TLSEnabled: true, TLSCertFile: cert}, "TLSKeyFile"},
		"key without certificate":     {Config{TLSEnabled: true, TLSKeyFile: key}, "TLSCertFile"},
		"certificate and key missing": {Config{TLSEnabled: true, TLSCertFile: missing, TLSKeyFile: missing}, "TLSCertFile,TLSKeyFile"},
		"key of another certificate":  {Config{TLSEnabled: true, TLSCertFile: cert, TLSKeyFile: otherKey}, "TLSCertFile"},
		"TLS files without TLS":       {Config{TLSCAFile: ca, TLSCertFile: cert, TLSKeyFile: key, TLSServerName: "x"}, "TLSCAFile,TLSCertFile,TLSKeyFile,TLSServerName"},
		"client name with a space":    {Config{ClientName: "my app"}, "ClientName"},
		"client name not ASCII":       {Config{ClientName: "größe"}, "ClientName"},
		"braces in the prefix":        {Config{KeyPrefix: "{app}:"}, "KeyPrefix"},
		"lock node without a port":    {Config{LockNodes: []string{"a:1", "b"}}, "LockNodes"},
		"lock node with another URL":  {Config{LockNodes: []string{"http://a:1"}}, "LockNodes"},
		"lock node twice":             {Config{LockNodes: []string{"a:1", "redis://:pw@A:1/2"}}, "LockNodes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tc.config.Validate()
			require.ErrorIs(t, err, ErrInvalid)
			var e *Error
			require.ErrorAs(t, err, &e)
			var names []string
			for _, f := range e.Fields {
				names = append(names, f.Field)
				require.NotEmpty(t, f.Value)
				require.NotEmpty(t, f.Allowed)
				require.Contains(t, err.Error(), f.Field)
			}
			require.Equal(t, tc.fields, strings.Join(names, ","))
		})
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	err := (&Config{Port: "x", DB: -1}).Validate()
	require.EqualError(t, err, `config: invalid: Port (REDIS_PORT) is "x", allowed is a port from 1 to 65535; DB (REDIS_DB) is -1, allowed is 0 or more`)
	require.ErrorIs(t, err, FieldError{Field: "DB", Variable: "REDIS_DB", Value: "-1", Allowed: "0 or more"})
}

// Long values are cut, so that one typing error does not fill a log.
func TestErrorTextIsShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	err := (&Config{Port: long, LockNodes: make([]string, 500)}).Validate()
	require.Error(t, err)
	require.Less(t, len(err.Error()), 600)
}
