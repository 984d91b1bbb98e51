package providers

import (
	"fmt"
	"log/slog"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/slogcore"
)

// slogged is what WithSlog puts into the graph: a logger for all instances, and for nobody else.
type slogged struct{ log *zap.Logger }

// WithSlog makes all instances log to l, whether the graph has a *zap.Logger or not.
func WithSlog(l *slog.Logger) fx.Option {
	log, err := slogcore.New("WithSlog", l)
	if err != nil {
		return fx.Error(fmt.Errorf("%w: %w", ErrInvalidOption, err))
	}
	return fx.Options(onlyOnce("use cache.WithSlog once"), fx.Provide(func() slogged { return slogged{log} }))
}
