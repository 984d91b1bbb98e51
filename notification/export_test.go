package notification

import "time"

// WithLongestPause sets how long to wait at most before the connection is made anew, so that a test can cut it often.
func WithLongestPause(d time.Duration) Option {
	return func(s *settings) { s.longestPause = d }
}
