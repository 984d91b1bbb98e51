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
// the environment means zero. Whoever needs an explicit zero in Go starts from
// [Default] or [Load], whose results are complete: their zeros are meant.
//
//	cfg := config.Default()
//	cfg.MinIdleConns = 0 // no connection is kept open in advance
//
// For MaxRetries, MinRetryBackoff, MaxRetryBackoff and
// NotificationHistorySize the value -1 also means "none", in every kind of
// Config. Every other negative number is an error.
//
// Defaults adapt to what is set beside them: a PoolSize of 3 alone lowers the
// default number of idle connections to 3 instead of being refused.
//
// # Errors
//
// [Config.Validate], [Load] and the JSON decoder report every bad field at once,
// as an [*Error]. errors.Is(err, ErrInvalid) holds for each of them.
//
// # Secrets
//
// Password, SentinelPassword and the user part and query of a URL never show:
// not in fmt output, JSON, zap or slog fields, and not in an error. The fields
// of a Config stay plain strings, so code that reads them can still leak them,
// and so can fmt when a Config sits in an unexported field of another struct,
// because fmt calls no methods there.
package config

//go:generate go run ../internal/configdoc/cmd -config . -readme ../README.md
