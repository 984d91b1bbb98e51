package redisx

import "context"

// backgroundKey marks contexts of background work.
type backgroundKey struct{}

// Background marks the commands sent with ctx as work that nobody asked for just now,
// such as renewals, heartbeats and health checks: they are part of a trace that ctx
// belongs to, but start none of their own.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// IsBackground reports whether Background has marked ctx.
func IsBackground(ctx context.Context) bool { return ctx.Value(backgroundKey{}) != nil }
