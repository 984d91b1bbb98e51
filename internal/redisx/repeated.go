package redisx

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// repeatEvery is how often a condition that lasts is logged.
const repeatEvery = time.Minute

// Repeated logs one condition that may come up many times in a row, such as a
// connection that cannot be opened: at once, and then once a minute at most. The zero
// value is ready. It is safe for concurrent use.
type Repeated struct {
	mu     sync.Mutex
	last   time.Time // when it was logged
	hidden int       // how often it came up since
	shown  bool      // it was logged since it was last over
}

// Log notes that the condition has come up, and logs it with how often it has come up
// since the last time, as the field "repeated". Less than a minute after that it is
// logged at debug level only.
func (r *Repeated) Log(log *zap.Logger, level zapcore.Level, msg string, fields ...zap.Field) {
	log = log.WithOptions(zap.AddCallerSkip(1)) // the line is the caller's
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if !r.last.IsZero() && now.Sub(r.last) < repeatEvery {
		r.hidden++
		log.Debug(msg, fields...)
		return
	}
	if r.hidden > 0 {
		fields = append(slices.Clip(fields), zap.Int("repeated", r.hidden))
	}
	r.last, r.hidden, r.shown = now, 0, true
	log.Log(level, msg, fields...)
}

// Over notes that the condition has passed, and logs that if its coming was logged.
func (r *Repeated) Over(log *zap.Logger, msg string, fields ...zap.Field) {
	log = log.WithOptions(zap.AddCallerSkip(1))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shown {
		r.shown = false
		log.Info(msg, fields...)
	}
}
