// Package config describes how to reach Redis and how the cache module behaves.
//
// # Where a Config comes from
//
// [Load] reads the environment, [Default] starts from the defaults alone, and a
// hand-written Config (or one decoded from JSON) names only what differs:
//
//	cfg := &config.Config{Host: "redis.internal", PoolSize: 50}
//
// # Zero and default
//
// A zero field of a hand-written Config means its default. An explicit zero in
// the environment means zero. For an explicit zero in Go start from [Default] or
// [Load], whose results are complete: their zeros are meant.
//
//	cfg := config.Default()
//	cfg.MinIdleConns = 0 // no connection is kept open in advance
//
// For ReadTimeout, WriteTimeout, MaxRetries, MinRetryBackoff, MaxRetryBackoff,
// ConnMaxLifetime, ConnMaxIdleTime, NotificationHistorySize and StoreNearEntries the value -1 also means
// "none", in every kind of Config. Every other negative number is an error.
//
// Defaults adapt to what is set beside them: a PoolSize of 3 alone lowers the
// default number of idle connections to 3 instead of being refused.
//
// # How values are written
//
// A duration has its unit, in small letters and without blanks, in the environment, in
// JSON and in the query of a URL alike: 500ms, 5s, 1h30m. A plain number is refused,
// because it would mean seconds to some and nanoseconds to others; only 0, and -1 where
// it means "none", need no unit. A whole number is written in plain digits: 10, and neither
// 010 nor 0xa. A port may be a number in JSON.
//
// Removed are blanks around addresses, a byte order mark at the start of any text or file,
// and a single line break at the end of any text, as echo and mounted secrets leave it.
//
// Errors are other line breaks, quotes around a value, and variables that were not filled
// in, such as $(REDIS_HOST). So are blanks and invisible characters at the start or end of
// any text but KeyPrefix. The content of a password file is judged as Password is. A
// password that really has a blank there is given percent-encoded in a URL, also of a
// lock node, or by Credentials. The sentinels' password cannot have one.
//
// # What wins
//
// A URL wins over Host, Port, and a database, user and password that it names itself.
// For a single server it wins over Addrs as well; with Cluster or Sentinel, where both
// would name the servers, it is an error beside them. MasterName and the Addrs of a
// Cluster win over Host and Port, and TLSConfig over all other TLS fields.
//
// What is overridden is not judged. Kubernetes sets REDIS_PORT to something like
// tcp://10.0.171.239:6379 for a Service named redis, which does no harm beside a
// REDIS_URL. Without one it is an error that says so.
//
// # Options of a URL
//
// The options in the query of a URL win over the fields of the same name, for the server
// of that URL: pool_size over PoolSize, skip_verify over TLSSkipVerify, but not over a
// TLSConfig. A lock node written as host:port takes those of the main URL, one that is a
// URL has its own. The options are those of go-redis:
//
//   - pool_size, min_idle_conns, max_idle_conns, max_concurrent_dials: 1 to 100000
//   - max_active_conns, the open connections at most: 0 for no limit, to 100000
//   - pipeline_pool_size: 1 to 100000, or -1 for none
//   - pipeline_read_buffer_size, pipeline_write_buffer_size: 1 to 67108864 bytes
//   - max_retries: 0 or -1 for none, to 1000
//   - protocol: 2 or 3
//   - db, unless the path names it
//   - client_name
//   - pool_fifo, and with rediss:// or valkeys:// skip_verify: true or false
//   - dial_timeout, pool_timeout: durations from 1ms to 24h
//   - read_timeout, write_timeout: the same; 0 or -1 for none
//   - min_retry_backoff, max_retry_backoff: durations to 24h; 0 or -1 for none
//   - conn_max_idle_time (or idle_timeout), conn_max_lifetime (or max_conn_age),
//     conn_max_lifetime_jitter: durations to 87600h, ten years; 0 or -1 for none
//
// Each may be there once. An empty one means the field, as an empty variable does. The
// zeros that are missing here are errors, as go-redis would ignore them: a MinIdleConns or
// MaxIdleConns of 0 is set by its field. min_idle_conns is at most max_idle_conns, and
// min_retry_backoff at most max_retry_backoff; where a URL has one of the two, the field of
// the other is moved to agree with it.
//
// # Credentials
//
// There is one source of them: Username and Password (or the user part of URL), with
// PasswordFile in place of Password for secrets that are rotated, or a function, or a
// provider as go-redis defines it. Files and functions are asked for each new
// connection. Lock nodes written as host:port use the same source.
//
// # Errors
//
// [Config.Validate], [Load] and the JSON decoder report every bad field at once,
// as an [*Error]. errors.Is(err, ErrInvalid) holds for each of them.
//
// # Secrets
//
// Password, SentinelPassword, the content of a password file, and the user part and
// query of a URL never show: not in fmt output, JSON, zap or slog fields, and not in
// an error. Nor does the name of a password file that is no path, since it may be the
// password itself, or what stands in place of a TLS file and may be a key. The fields of a
// Config stay plain strings, so code that reads them can still leak them,
// and so can fmt when a Config sits in an unexported field of another struct,
// because fmt calls no methods there.
package config

//go:generate go run ../internal/configdoc/cmd -config . -page ../docs/configuration.md
