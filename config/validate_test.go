package config

import (
	"context"
	"crypto/tls"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/auth"
	"github.com/stretchr/testify/require"
)

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	ca, cert, key := writeTLSFiles(t)
	password := writeSecret(t, "pw\n")
	provide := func(context.Context) (string, string, error) { return "", "", nil }
	for name, c := range map[string]*Config{
		"nothing":                   {},
		"nil":                       nil,
		"IPv6":                      {Host: "::1"},
		"IPv6 in brackets":          {Host: "[::1]"},
		"IPv6 with a zone":          {Host: "fe80::1%eth0"},
		"IPv6 with zone, brackets":  {Host: "[fe80::1%eth0]"},
		"zones in lists":            {Cluster: true, Addrs: []string{"[fe80::1%eth0]:1"}, LockNodes: []string{"[fe80::1%eth0]:1"}},
		"URL with a zone":           {URL: "redis://[fe80::1%25eth0]:6380"},
		"underscore in a host name": {Host: "my_redis"},
		"host name not ASCII":       {Host: "rédis.example"},
		"URL of Valkey":             {URL: "valkey://user:pw@h:1/2?pool_size=3"},
		"URL of Valkey with TLS":    {URL: "valkeys://h", TLSCAFile: ca, LockNodes: []string{"VALKEYS://a", "valkey://b:1"}},
		"URL with options":          {URL: "redis://h?read_timeout=-1&write_timeout=0&conn_max_lifetime=1h&max_retries=-1"},
		"URL with $ in a password":  {URL: "redis://:pa$$w0rd$(@h"},
		"URL with spaces around":    {URL: " redis://h \n"},
		"CA for a lock node":        {TLSCAFile: ca, TLSSkipVerify: true, LockNodes: []string{"rediss://a"}},
		"skip-verify":               {TLSEnabled: true, TLSSkipVerify: true},
		"protocol 2":                {Protocol: 2},
		"number of a zone":          {Host: "fe80::1%25", LockNodes: []string{"[fe80::1%251]:1", "redis://[fe80::1%2525]:1"}},
		"longest times":             {DialTimeout: maxTime, ReadTimeout: maxTime, PingTimeout: maxTime, ConnMaxIdleTime: maxAge, NotificationHistoryTTL: maxAge},
		"highest database":          {DB: maxDatabase},
		"lifetimes":                 {ConnMaxLifetime: time.Hour, ConnMaxIdleTime: -1},
		"password file":             {PasswordFile: password, Username: "u"},
		"user in URL, password not": {URL: "redis://u@h", Password: "p"},
		"default user":              {Username: "default", LockNodes: []string{"redis://default@h"}},
		"password file and user":    {PasswordFile: password, URL: "redis://u@h"},
		"credentials":               {Credentials: provide},
		"credentials provider":      {CredentialsProvider: provider{}, URL: "redis://h"},
		"addresses beside a URL":    {URL: "redis://h", Addrs: []string{"a:1"}},
		"secret that looks odd":     {Password: "$(a", SentinelPassword: "x${A}", MasterName: "m", Addrs: []string{"a:1"}},
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
		"a near cache":              {StoreNearEntries: 10_000, StoreNearBytes: 1, StoreNearMaxStaleness: 10 * time.Millisecond},
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
	password := writeSecret(t, "pw")
	provide := func(context.Context) (string, string, error) { return "", "", nil }

	for name, tc := range map[string]struct {
		config Config
		fields string // comma separated, in the order of the struct
	}{
		"port not a number": {Config{Port: "redis"}, "Port"},
		"port 0":            {Config{Port: "0"}, "Port"},
		"port too high":     {Config{Port: "65536"}, "Port"},
		"negative port":     {Config{Port: "-1"}, "Port"},
		"port with a sign":  {Config{Port: "+6379"}, "Port"},
		"host with a port":  {Config{Host: "localhost:6379"}, "Host"},
		"host is a URL":     {Config{Host: "redis://localhost"}, "Host"},
		"host with a space": {Config{Host: "local host"}, "Host"},
		"negative DB":       {Config{DB: -1}, "DB"},
		"DB beyond all":     {Config{DB: maxDatabase + 1}, "DB"},
		"times beyond a day": {Config{
			DialTimeout: maxTime + 1, ReadTimeout: math.MaxInt64, WriteTimeout: maxTime + 1, PoolTimeout: maxTime + 1, PingTimeout: math.MaxInt64,
			MinRetryBackoff: maxTime + 1, MaxRetryBackoff: maxTime + 1,
		}, "DialTimeout,ReadTimeout,WriteTimeout,PoolTimeout,PingTimeout,MinRetryBackoff,MaxRetryBackoff"},
		"ages beyond ten years": {Config{
			ConnMaxLifetime: maxAge + 1, ConnMaxIdleTime: math.MaxInt64, NotificationHistoryTTL: maxAge + 1,
		}, "ConnMaxLifetime,ConnMaxIdleTime,NotificationHistoryTTL"},
		"negative pool":               {Config{PoolSize: -1}, "PoolSize"},
		"huge pool":                   {Config{PoolSize: 1 << 40}, "PoolSize"},
		"negative idle":               {Config{MaxIdleConns: -1, MinIdleConns: -1}, "MaxIdleConns,MinIdleConns"},
		"min idle > max idle":         {Config{MaxIdleConns: 3, MinIdleConns: 4}, "MinIdleConns"},
		"negative timeouts":           {Config{DialTimeout: -1, ReadTimeout: -2, WriteTimeout: -time.Second, PoolTimeout: -1, PingTimeout: -1}, "DialTimeout,ReadTimeout,WriteTimeout,PoolTimeout,PingTimeout"},
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
		"negative bytes":              {Config{NotificationHistoryBytes: -1, NotificationMaxEventSize: -1}, "NotificationHistoryBytes,NotificationMaxEventSize"},
		"event beyond Redis":          {Config{NotificationMaxEventSize: 512<<20 + 1}, "NotificationMaxEventSize"},
		"store that cannot wait":      {Config{StoreTimeout: -1}, "StoreTimeout"},
		"State that cannot wait":      {Config{StoreStateTimeout: -1}, "StoreStateTimeout"},
		"State that waits too long":   {Config{StoreStateTimeout: time.Minute + 1}, "StoreStateTimeout"},
		"negative near cache":         {Config{StoreNearEntries: -2, StoreNearBytes: -1}, "StoreNearEntries,StoreNearBytes"},
		"bytes for near entries":      {Config{StoreNearEntries: 1 << 30}, "StoreNearEntries"},
		"near cache never stale":      {Config{StoreNearMaxStaleness: 9 * time.Millisecond}, "StoreNearMaxStaleness"},
		"channel prefix with *":       {Config{NotificationChannelPrefix: "a*"}, "NotificationChannelPrefix"},
		"channel prefix with ?":       {Config{NotificationChannelPrefix: "?"}, "NotificationChannelPrefix"},
		"channel prefix with [":       {Config{NotificationChannelPrefix: "a[b]"}, "NotificationChannelPrefix"},
		"channel prefix with \\":      {Config{NotificationChannelPrefix: `a\`}, "NotificationChannelPrefix"},
		"channel prefix not UTF-8":    {Config{NotificationChannelPrefix: "\xff"}, "NotificationChannelPrefix"},
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
		"URL without a host":          {Config{URL: "redis:///1"}, "URL"},
		"URL with a port alone":       {Config{URL: "redis://:6379"}, "URL"},
		"URL with password, no host":  {Config{URL: "redis://:pw@:6379"}, "URL"},
		"URL with an empty port":      {Config{URL: "redis://h:"}, "URL"},
		"URL with two ports":          {Config{URL: "redis://127.0.0.1:6379:6380"}, "URL"},
		"URL with bare IPv6":          {Config{URL: "redis://fe80::1:6379"}, "URL"},
		"URL with a name in brackets": {Config{URL: "redis://[h]:6379"}, "URL"},
		"URL with two databases":      {Config{URL: "redis://h/1?db=2"}, "URL"},
		"URL with an option twice":    {Config{URL: "redis://h?pool_size=1&pool_size=2"}, "URL"},
		"URL with no dial timeout":    {Config{URL: "redis://h?dial_timeout=0s"}, "URL"},
		"URL with a negative time":    {Config{URL: "redis://h?read_timeout=-5s"}, "URL"},
		"URL in quotes":               {Config{URL: `"redis://h"`}, "URL"},
		"URL with blanks only":        {Config{URL: " "}, "URL"},
		"URL beside addresses":        {Config{URL: "redis://localhost", Cluster: true, Addrs: []string{"a:1"}}, "URL"},
		"IPv4 with a zone":            {Config{Host: "127.0.0.1%eth0"}, "Host"},
		"odd zone":                    {Config{Host: "fe80::1%a b"}, "Host"},
		"zone as in a URL":            {Config{Host: "fe80::1%25eth0"}, "Host"},
		"the same in lists": {Config{
			Cluster: true, Addrs: []string{"a:1", "[fe80::1%25eth0]:1"}, LockNodes: []string{"[fe80::1%25eth0]:1"},
		}, "Addrs,LockNodes"},
		"half a bracket":              {Config{Host: "[::1"}, "Host"},
		"list of hosts":               {Config{Host: "a,b"}, "Host"},
		"host with a variable":        {Config{Host: "$REDIS_HOST"}, "Host"},
		"user with a space":           {Config{Username: "a b"}, "Username"},
		"protocol 1":                  {Config{Protocol: 1}, "Protocol"},
		"lifetimes below -1":          {Config{ConnMaxLifetime: -2, ConnMaxIdleTime: -time.Second}, "ConnMaxLifetime,ConnMaxIdleTime"},
		"skip-verify without TLS":     {Config{TLSSkipVerify: true, LockNodes: []string{"redis://a"}}, "TLSSkipVerify"},
		"server name for lock nodes":  {Config{TLSServerName: "x", LockNodes: []string{"rediss://a"}}, "TLSServerName"},
		"server name is an address":   {Config{TLSEnabled: true, TLSServerName: "x:1"}, "TLSServerName"},
		"password file missing":       {Config{PasswordFile: missing}, "PasswordFile"},
		"password file is a folder":   {Config{PasswordFile: t.TempDir()}, "PasswordFile"},
		"password file empty":         {Config{PasswordFile: writeSecret(t, "\n")}, "PasswordFile"},
		"password file of two lines":  {Config{PasswordFile: writeSecret(t, "a\nb\n")}, "PasswordFile"},
		"password and its file":       {Config{Password: "x", PasswordFile: password}, "PasswordFile"},
		"password in URL and file":    {Config{URL: "redis://:x@h", PasswordFile: password}, "PasswordFile"},
		"credentials and password":    {Config{Password: "x", Credentials: provide}, "Credentials"},
		"credentials and file":        {Config{PasswordFile: password, Credentials: provide}, "Credentials"},
		"credentials and user":        {Config{URL: "redis://u@h", Credentials: provide}, "Credentials"},
		"provider and user":           {Config{Username: "u", CredentialsProvider: provider{}}, "CredentialsProvider"},
		"provider and credentials":    {Config{Credentials: provide, CredentialsProvider: provider{}}, "CredentialsProvider"},
		"nil provider":                {Config{CredentialsProvider: (*provider)(nil)}, "CredentialsProvider"},
		"user alone":                  {Config{Username: "app"}, "Username"},
		"user alone in URL":           {Config{URL: "redis://app@h"}, "URL"},
		"sentinel user without":       {Config{MasterName: "m", Addrs: []string{"a:1"}, SentinelUsername: "app"}, "SentinelUsername"},
		"user alone at lock node":     {Config{Password: "x", LockNodes: []string{"redis://app@h"}}, "LockNodes"},
		"no time to speak of":         {Config{DialTimeout: 1, ReadTimeout: 999, WriteTimeout: 1, PingTimeout: 1}, "DialTimeout,ReadTimeout,WriteTimeout,PingTimeout"},
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

// A URL that is split at the wrong place would lead to another host, and show part of
// the password: in the log when it is dialled, or in the error about it.
func TestMisreadURLs(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct{ shown, allowed string }{
		"redis://:57#Wc90@127.0.0.1:6379":   {"redis://REDACTED", "a URL without #"},
		"redis://app#1:Wc90@h":              {"redis://REDACTED", "a URL without #"},
		"redis://:57#Wc90":                  {"redis://REDACTED", "a URL without #"},
		"redis://:57/Wc90@h":                {"redis://REDACTED", "written %2F"},
		"redis://app:57/Wc90@h":             {"redis://REDACTED", "written %2F"},
		"redis://app?Wc90@h":                {"redis://REDACTED", "without ? in user and password"},
		"redis://app?:Wc90@h":               {"redis://REDACTED", "without ? in user and password"},
		"redis://app:Wc90?@h":               {"redis://REDACTED", "written %3F"},
		"redis://:Wc90@":                    {"redis://REDACTED@", "a host"},
		"redis://:5790":                     {"redis://REDACTED", "a host"},
		"redis://Wc!90:6379":                {"redis://REDACTED", "a host name or an IP address"},
		"unix://run/redis.sock":             {"unix://run/redis.sock", "unix:///run/redis.sock"},
		"unix://app:Wc90@run/redis.sock":    {"unix://REDACTED@run/redis.sock", "unix:///run/redis.sock"},
		"redis://h1:6379,h2:6379":           {"", "one host"},
		"redis://:Wc90@h1:6379,h2:6379":     {"", "one host"},
		"redis://h1,h2":                     {"redis://h1,h2", "one host"},
		"redis://$(REDIS_HOST):6379":        {"redis://REDACTED", "variables filled in"},
		"redis://${REDIS_HOST}:6379":        {"redis://REDACTED", "variables filled in"},
		"redis://{{ .Host }}:6379":          {"redis://REDACTED", "variables filled in"},
		"redis://:{{.Wc90}}@h":              {"", "variables filled in"},
		"redis://h:${PORT}":                 {"redis://REDACTED", "variables filled in"},
		"redis://$REDIS_HOST:6379":          {"redis://REDACTED", "a host name or an IP address"},
		"redis://h/$DB":                     {"redis://h/REDACTED", "database number"},
		"redis://h/1?db=2":                  {"redis://h/1?REDACTED", "one database"},
		"valkeys://app#1:Wc90@h":            {"valkeys://REDACTED", "a URL without #"},
		"redis://u:Wc90@h?read_timeout=5":   {"redis://REDACTED@h?REDACTED", "such as 5s"},
		"tcp://10.0.171.239:6379":           {"tcp://10.0.171.239:6379", "of the scheme"},
		"redis://app:1234577":               {"redis://REDACTED", "a port from"}, // a password, no port
		"unix://app:1234577":                {"unix://REDACTED", "unix:///run/redis.sock"},
		"unix://app:57":                     {"unix://REDACTED", "unix:///run/redis.sock"},
		`"redis://u:Wc90@h"`:                {"REDACTED", "quotes"},
		"redis://u:Wc90@h:1\n redis://h2":   {"redis://REDACTED", "line break"},
		"redis://u:Wc90@h:1 redis://u:x@h2": {"redis://REDACTED", "percent-encoded"},
	} {
		for name, c := range map[string]*Config{"URL": {URL: raw}, "LockNodes": {LockNodes: []string{raw}}} {
			err := c.Validate()
			got := badFields(t, err)[name]
			require.Contains(t, got.Allowed, want.allowed, "%s %s", name, raw)
			require.NotContains(t, err.Error(), "Wc90", "%s %s", name, raw)
			switch {
			case name == "LockNodes" && !isServiceLink(raw):
				require.Equal(t, `["REDACTED"]`, got.Value, raw)
			case want.shown != "":
				require.Contains(t, got.Value, `"`+want.shown+`"`, "%s %s", name, raw)
			}
		}
		opts, err := ParseURL(raw)
		require.Nil(t, opts)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.NotContains(t, err.Error(), "Wc90")
		}
	}
}

// Quotes stand around a whole list, of which the pieces look odd in other ways.
func TestQuotedList(t *testing.T) {
	t.Parallel()
	_, err := fromEnv(t, "", map[string]string{"REDIS_CLUSTER": "1", "REDIS_ADDRS": `"a:1,b:2"`, "REDIS_LOCK_NODES": "'a:1, redis://:Wc90@b'"})
	got := badFields(t, err)
	require.Contains(t, got["Addrs"].Allowed, "quotes")
	require.Contains(t, got["LockNodes"].Allowed, "quotes")
	require.NotContains(t, err.Error(), "Wc90")
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct {
		addr string
		tls  bool
	}{
		"redis://u:p@h": {"h:6379", false}, "VALKEY://h:1/2": {"h:1", false}, "valkeys://h:1?skip_verify=true": {"h:1", true},
		"rediss://[fe80::1%25eth0]": {"[fe80::1%eth0]:6379", true}, "unix:///run/redis.sock": {"/run/redis.sock", false},
	} {
		opts, err := ParseURL(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want.addr, opts.Addr)
		require.Equal(t, want.tls, opts.TLSConfig != nil)
		require.Equal(t, want.tls, (&Config{URL: raw}).UsesTLS())
	}
}

// The error names the file and nothing of its content, nor a secret put there by mistake.
func TestPasswordFileErrors(t *testing.T) {
	t.Parallel()
	file := writeSecret(t, "hunter2\n\nx\n")
	err := (&Config{PasswordFile: file}).Validate()
	require.ErrorContains(t, err, file)
	require.NotContains(t, err.Error(), "hunter2")
	_, err = (&Config{PasswordFile: file}).ReadPasswordFile()
	require.ErrorContains(t, err, file)
	require.NotContains(t, err.Error(), "hunter2")

	for _, quoted := range []string{`"hunter2"`, `'hunter2'`, "\"hunter2\"\n"} {
		err = (&Config{PasswordFile: writeSecret(t, quoted)}).Validate()
		require.ErrorContains(t, err, "quotes")
		require.NotContains(t, err.Error(), "hunter2")
	}

	err = (&Config{PasswordFile: "hunter2"}).Validate()
	require.Contains(t, badFields(t, err), "PasswordFile")
	require.NotContains(t, err.Error(), "hunter2")

	for content, want := range map[string]string{
		" hunter2": "a blank", "hunter2\t\n": "a blank", "\u00a0hunter2": "a blank", "\ufeff hunter2": "a blank", "\ufeff\ufeffhunter2": "a blank",
		"${hunter2}\n": "variables", "hunter2\n\n": "line break", "\ufeff\n": "is empty", "\ufeff'hunter2'": "quotes",
		"\xff\xfeh\x00u\x00": "NUL", // UTF-16
	} {
		file := writeSecret(t, content)
		err := (&Config{PasswordFile: file}).Validate()
		_, readErr := (&Config{PasswordFile: file}).ReadPasswordFile()
		for _, err := range []error{err, readErr} {
			require.ErrorContains(t, err, want, "%q", content)
			require.NotContains(t, err.Error(), "hunter2")
		}
	}
	for content, want := range map[string]string{
		"a b": "a b", "a\n": "a", "a\r\n": "a", "\ufeffa\r\n": "a", "a\ufeffb": "a\ufeffb", "${a}b": "${a}b",
	} {
		got, err := (&Config{PasswordFile: writeSecret(t, content)}).ReadPasswordFile()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// writeSecret writes a file and returns its path.
func writeSecret(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

// provider is a source of credentials with a secret in it.
type provider struct{ secret string }

func (provider) Subscribe(auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	return nil, nil, nil
}

// A % is written %25 in URLs alone.
func TestHintAboutAZone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"Host": {Host: "fe80::1%25eth0"}, "LockNodes": {LockNodes: []string{"[fe80::1%25eth0]:1"}},
		"Addrs": {Cluster: true, Addrs: []string{"[fe80::1%25eth0]:1"}},
	} {
		require.Equal(t, "only in a URL the % before a zone is written %25", badFields(t, c.Validate())[name].Hint)
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	err := (&Config{Port: "x", DB: -1}).Validate()
	require.EqualError(t, err, `config: invalid: Port (REDIS_PORT) is "x", allowed is a port from 1 to 65535; DB (REDIS_DB) is -1, allowed is 0 to 1073741824`)
	require.ErrorIs(t, err, FieldError{Field: "DB", Variable: "REDIS_DB", Value: "-1", Allowed: "0 to 1073741824"})
}

// Long values are cut, so that one typing error does not fill a log.
func TestErrorTextIsShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	err := (&Config{Port: long, LockNodes: make([]string, 500)}).Validate()
	require.Error(t, err)
	require.Less(t, len(err.Error()), 600)
}
