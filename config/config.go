package config

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/redis/go-redis/v9/auth"
)

// Config holds all settings of the cache module. Its zero value is usable and means
// "a Redis on localhost with the defaults".
//
// A Config is plain data without locks: it can be copied, and read concurrently
// as long as nothing writes to it. The module copies what it is given, so changing a
// Config afterwards changes nothing.
//
// Timeouts are 1ms at least; they and pauses are 24h at most, lifetimes of connections and of the history 87600h (ten
// years).
//
// The comment of each field is its description in docs/configuration.md; regenerate the
// table with go generate after changing one.
type Config struct {
	// Address as redis://, rediss:// (TLS), valkey://, valkeys:// (TLS) or unix:// URL. Wins over
	// Host, Port and DB, and over Addrs of a single server; must not be set with MasterName, or with
	// Cluster and Addrs. Query options of go-redis such as ?pool_size=20 work and win over the fields,
	// durations with their unit. Credentials and a database it does not name come from their own fields.
	URL string `env:"REDIS_URL" json:"url" redact:"url" part:"server"`
	// Host name or IP address of the server.
	Host string `env:"REDIS_HOST,default=localhost" json:"host" redact:"addr" part:"server"`
	// TCP port, 1 to 65535.
	Port string `env:"REDIS_PORT,default=6379" json:"port" redact:"addr" part:"server"`
	// ACL user, with a password: any, if it needs none (nopass). Empty is Redis' default user.
	Username string `env:"REDIS_USERNAME" json:"username" redact:"user" part:"server"`
	// Password of the user.
	Password string `env:"REDIS_PASSWORD" json:"password" redact:"secret" part:"server"`
	// File with the password, such as a mounted secret, instead of Password: read again for each
	// new connection, so that a rotated password needs no restart. A byte order mark and one line
	// break at its end do not count.
	PasswordFile string `env:"REDIS_PASSWORD_FILE" json:"password_file" redact:"path" part:"server"`
	// Credentials, when set, returns user and password for each new connection, in place of
	// Username, Password and PasswordFile. A user without a password is an error. It must be safe for concurrent use, and return when its
	// context ends.
	Credentials func(ctx context.Context) (username, password string, err error) `json:"-" part:"server"`
	// CredentialsProvider, when set, is asked for each new connection in place of Username,
	// Password, PasswordFile and Credentials. When it announces other credentials, the connections
	// in the pool are replaced.
	CredentialsProvider auth.StreamingCredentialsProvider `json:"-" part:"server"`
	// Database number; only 0 exists in Cluster.
	DB int `env:"REDIS_DB,default=0" json:"db" part:"server"`

	// Connections in use at a time, per server. Pipelines and subscriptions have connections
	// of their own.
	PoolSize int `env:"REDIS_POOL_SIZE,default=10" json:"pool_size"`
	// Idle connections kept open at most; 0 keeps all.
	MaxIdleConns int `env:"REDIS_MAX_IDLE_CONNS,default=5" json:"max_idle_conns"`
	// Idle connections opened in advance; 0 opens none.
	MinIdleConns int `env:"REDIS_MIN_IDLE_CONNS,default=2" json:"min_idle_conns"`

	// Time after which a connection is replaced, for load balancers and rotated certificates; 0 or
	// -1 keeps it as long as it works.
	ConnMaxLifetime time.Duration `env:"REDIS_CONN_MAX_LIFETIME,default=0" json:"conn_max_lifetime"`
	// Time after which an unused connection is replaced; 0 or -1 keeps it.
	ConnMaxIdleTime time.Duration `env:"REDIS_CONN_MAX_IDLE_TIME,default=30m" json:"conn_max_idle_time"`

	// Time to open a connection.
	DialTimeout time.Duration `env:"REDIS_DIAL_TIMEOUT,default=5s" json:"dial_timeout"`
	// Time to wait for a reply; 0 or -1 leaves it to the caller's context.
	ReadTimeout time.Duration `env:"REDIS_READ_TIMEOUT,default=3s" json:"read_timeout"`
	// Time to send a command; 0 or -1 leaves it to the caller's context.
	WriteTimeout time.Duration `env:"REDIS_WRITE_TIMEOUT,default=3s" json:"write_timeout"`
	// Time to wait for a free connection when all are in use.
	PoolTimeout time.Duration `env:"REDIS_POOL_TIMEOUT,default=4s" json:"pool_timeout"`
	// Time one health check may take; a try at start may take twice as long.
	PingTimeout time.Duration `env:"REDIS_PING_TIMEOUT,default=1s" json:"ping_timeout"`
	// Version of the protocol, 2 or 3.
	Protocol int `env:"REDIS_PROTOCOL,default=3" json:"protocol"`

	// Use TLS, with the system's roots unless a CA file is named. A rediss:// or valkeys:// URL or
	// a TLSConfig turns it on as well.
	TLSEnabled bool `env:"REDIS_TLS,default=false" json:"tls_enabled" part:"server"`
	// TLSConfig, when set, turns TLS on and wins over all other TLS fields. It is used as a copy. A ClientSessionCache in it makes
	// the client resume sessions, with a cache of its own.
	TLSConfig *tls.Config `json:"-" part:"server"`
	// PEM file with the certificate authorities to trust instead of the system's. Like the client
	// certificate it is read again for each new connection, and also serves lock nodes that are
	// rediss:// URLs.
	TLSCAFile string `env:"REDIS_TLS_CA_FILE" json:"tls_ca_file" redact:"pem" part:"server"`
	// PEM file with the client certificate; needs the key.
	TLSCertFile string `env:"REDIS_TLS_CERT_FILE" json:"tls_cert_file" redact:"pem" part:"server"`
	// PEM file with the client certificate's key.
	TLSKeyFile string `env:"REDIS_TLS_KEY_FILE" json:"tls_key_file" redact:"pem" part:"server"`
	// Name expected in the server's certificate, instead of the host.
	TLSServerName string `env:"REDIS_TLS_SERVER_NAME" json:"tls_server_name" redact:"addr" part:"server"`
	// Accept any certificate: the connection is encrypted, but may lead to any server. For tests
	// only.
	TLSSkipVerify bool `env:"REDIS_TLS_SKIP_VERIFY,default=false" json:"tls_skip_verify" part:"server"`

	// Times a failed command is sent again; 0 or -1 never.
	MaxRetries int `env:"REDIS_MAX_RETRIES,default=3" json:"max_retries"`
	// Shortest pause before a retry; 0 or -1 is no pause.
	MinRetryBackoff time.Duration `env:"REDIS_MIN_RETRY_BACKOFF,default=8ms" json:"min_retry_backoff"`
	// Longest pause before a retry; 0 or -1 is no pause.
	MaxRetryBackoff time.Duration `env:"REDIS_MAX_RETRY_BACKOFF,default=512ms" json:"max_retry_backoff"`

	// Name of the master that Sentinel watches; turns Sentinel on and needs the sentinels' addresses.
	MasterName string `env:"REDIS_MASTER_NAME" json:"master_name" redact:"user" part:"server"`
	// Addresses host:port, comma separated: of the sentinels, or of some nodes of the Cluster.
	Addrs []string `env:"REDIS_ADDRS" json:"addrs" redact:"addr" part:"server"`
	// ACL user at the sentinels, with a password.
	SentinelUsername string `env:"REDIS_SENTINEL_USERNAME" json:"sentinel_username" redact:"user" part:"server"`
	// Password at the sentinels.
	SentinelPassword string `env:"REDIS_SENTINEL_PASSWORD" json:"sentinel_password" redact:"secret" part:"server"`
	// Use Redis Cluster, starting from the addresses, the URL, or host and port.
	Cluster bool `env:"REDIS_CLUSTER,default=false" json:"cluster" part:"server"`

	// Name of our connections in CLIENT LIST.
	ClientName string `env:"REDIS_CLIENT_NAME" json:"client_name"`
	// Prefix of every key the module itself writes.
	KeyPrefix string `env:"REDIS_KEY_PREFIX,default=cache:" json:"key_prefix"`
	// Independent masters that decide on locks by majority, comma separated: host:port, which
	// takes credentials and TLS from the main settings, or full URLs, which bring their own
	// credentials and share the TLS files and TLSSkipVerify, or else the TLSConfig.
	LockNodes []string `env:"REDIS_LOCK_NODES" json:"lock_nodes" redact:"url" part:"server"`
	// Whether the application fails to start while Redis is down; if false it starts, is not
	// ready, and recovers by itself.
	Required *bool `env:"REDIS_REQUIRED,default=true" json:"required"`

	// Time between readiness turning false and the first thing to close, so that load balancers stop sending; 0 is none. At most
	// half of the stop timeout is used, and the longest of several instances'.
	DrainDelay time.Duration `env:"REDIS_DRAIN_DELAY,default=0" json:"drain_delay"`

	// Messages buffered for a slow subscriber, 1 to 1048576.
	NotificationBufferSize int `env:"REDIS_NOTIFICATION_BUFFER_SIZE,default=100" json:"notification_buffer_size"`
	// What happens when that buffer is full: replay (the subscriber reads on from the history;
	// without one as drop_newest), drop_oldest, drop_newest, or disconnect.
	NotificationPolicy string `env:"REDIS_NOTIFICATION_POLICY,default=replay" json:"notification_policy"`
	// Events kept for subscribers that missed them; 0 or -1 keeps none.
	NotificationHistorySize int `env:"REDIS_NOTIFICATION_HISTORY_SIZE,default=10000" json:"notification_history_size"`
	// Time the events are kept after the last one, at least 1s.
	NotificationHistoryTTL time.Duration `env:"REDIS_NOTIFICATION_HISTORY_TTL,default=1h" json:"notification_history_ttl"`
	// Bytes of events kept, 64 MiB by default: their JSON, the names of their channels and about 100 more for each.
	NotificationHistoryBytes int `env:"REDIS_NOTIFICATION_HISTORY_BYTES,default=67108864" json:"notification_history_bytes"`
	// Bytes that the JSON and the channel names of one event may have, 1 MiB by default, 512 MiB at most; a larger event is
	// refused.
	NotificationMaxEventSize int `env:"REDIS_NOTIFICATION_MAX_EVENT_SIZE,default=1048576" json:"notification_max_event_size"`
	// What stands before the name of every channel in Redis, for environments that share a server; without *, ?, [ and \.
	NotificationChannelPrefix string `env:"REDIS_NOTIFICATION_CHANNEL_PREFIX" json:"notification_channel_prefix"`

	// Time that Redis may answer nobody while a Cache of the store waits for it, before that goes on without; eight times that
	// in any case, as behind many other calls, or where one connection of several is half open.
	StoreTimeout time.Duration `env:"REDIS_STORE_TIMEOUT,default=250ms" json:"store_timeout"`
	// Time a State of the store waits for Redis, repetitions included, before it fails; at most 1m.
	StoreStateTimeout time.Duration `env:"REDIS_STORE_STATE_TIMEOUT,default=2s" json:"store_state_timeout"`
	// Values that each Cache of the store keeps in this process at most, up to 100000000; 0 or -1 keeps none. 10000 is a
	// good choice.
	StoreNearEntries int `env:"REDIS_STORE_NEAR_ENTRIES,default=0" json:"store_near_entries"`
	// Bytes that the values kept by one Cache take at most, 64 MiB by default: encoded, with their keys and 240 more for each,
	// and each at least this divided by the number of entries.
	StoreNearBytes int `env:"REDIS_STORE_NEAR_BYTES,default=67108864" json:"store_near_bytes"`
	// Age that a value kept in this process may reach without being checked against Redis, while that answers; at least 10ms.
	// When Redis fails, values within their TTL are returned as stale.
	StoreNearMaxStaleness time.Duration `env:"REDIS_STORE_NEAR_MAX_STALENESS,default=1s" json:"store_near_max_staleness"`

	// Dialer, when set, opens every connection in place of net.Dialer: to an
	// in-memory server, or through a tunnel. TLS, when on, is spoken over what it
	// returns. It must be safe for concurrent use, and return when its context ends.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error) `json:"-" part:"server"`

	// complete says that zeros are meant; Load, Default and WithDefaults set it.
	complete bool
	// prefix stands before the names of the variables that this was loaded from.
	prefix string
}

// EnvPrefix is what stands before the names of the environment variables from which [Load]
// read c, such as SESSIONS_; empty for a hand-written or nil Config.
func (c *Config) EnvPrefix() string {
	if c == nil {
		return ""
	}
	return c.prefix
}

// IsRequired reports whether the application must not start without Redis.
// It is true unless Required points to false.
func (c *Config) IsRequired() bool {
	return c == nil || c.Required == nil || *c.Required
}
