package batch_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redistest"
)

// BenchmarkProcess compares Commands with the client that they send on: one caller, for
// whom batching must cost little, and many, for whom it must gain.
func BenchmarkProcess(b *testing.B) {
	server := redistest.Start(b)
	client := server.Client(b)
	commands := batch.NewCommands(client, batch.CommandSettings{Timeout: time.Minute, Alone: time.Minute})
	for _, ways := range []struct {
		name    string
		process func(context.Context, redis.Cmder) error
	}{
		{"client", client.Process},
		{"batch", func(ctx context.Context, cmd redis.Cmder) error { return commands.Process(ctx, "n", cmd, 0) }},
	} {
		for _, callers := range []struct {
			name  string
			count int
		}{{"1 caller", 1}, {"64 callers", 64}} {
			b.Run(callers.name+"/"+ways.name, func(b *testing.B) {
				b.ReportAllocs()
				var all sync.WaitGroup
				for range callers.count {
					all.Go(func() {
						for range b.N/callers.count + 1 {
							if err := ways.process(b.Context(), incr("n")); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}
