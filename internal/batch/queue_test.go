package batch_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// item is sent by a line, which doubles it.
type item struct{ number, doubled int }

// line is a way to send items that the test opens and closes.
type line struct {
	open    chan struct{} // a batch takes one value, or the closing, to leave
	mu      sync.Mutex    // guards what follows
	batches [][]int
	ctxs    []context.Context //nolint:containedctx // what Send was called with, for the test to look at
}

func newLine() *line { return &line{open: make(chan struct{})} }

func (l *line) send(ctx context.Context, items []*item) {
	l.mu.Lock()
	numbers := make([]int, len(items))
	for i, it := range items {
		numbers[i] = it.number
	}
	l.batches = append(l.batches, numbers)
	l.ctxs = append(l.ctxs, ctx)
	l.mu.Unlock()
	select {
	case <-l.open:
	case <-ctx.Done():
		return
	}
	for _, it := range items {
		it.doubled = 2 * it.number
	}
}

func (l *line) sent() [][]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.batches
}

// settings are those of the tests: one batch at a time.
func (l *line) settings() batch.Settings[*item] {
	return batch.Settings[*item]{Send: l.send, Timeout: time.Hour}
}

// answer is what came back for an item.
type answer struct {
	item *item
	sent bool
	err  error
}

// do gives an item to a queue, and returns when the caller waits.
func do(ctx context.Context, q *batch.Queue[*item], number int) chan answer {
	answers := make(chan answer, 1)
	go func() {
		it := &item{number: number}
		sent, err := q.Do(ctx, it)
		answers <- answer{it, sent, err}
	}()
	synctest.Wait()
	return answers
}

func TestACallerThatIsAloneWaitsForNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		close(l.open)
		q := batch.NewQueue(l.settings())
		for number := range 3 {
			began := time.Now()
			a := <-do(t.Context(), q, number)
			require.NoError(t, a.err)
			require.True(t, a.sent)
			require.Equal(t, 2*number, a.item.doubled)
			require.Zero(t, time.Since(began))
		}
		require.Equal(t, [][]int{{0}, {1}, {2}}, l.sent())
	})
}

func TestWhatArrivesMeanwhileLeavesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		set := l.settings()
		set.MaxItems = 3
		q := batch.NewQueue(set)
		var answers []chan answer
		for number := range 6 {
			answers = append(answers, do(t.Context(), q, number))
		}
		close(l.open)
		for number, a := range answers {
			got := <-a
			require.NoError(t, got.err)
			require.Equal(t, 2*number, got.item.doubled)
		}
		require.Equal(t, [][]int{{0}, {1, 2, 3}, {4, 5}}, l.sent(), "in the order of arrival, three at most")
	})
}

func TestSizeBoundsABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		set := l.settings()
		set.Size, set.MaxSize = func(it *item) int { return it.number }, 10
		q := batch.NewQueue(set)
		var answers []chan answer
		for _, size := range []int{1, 4, 6, 1, 50, 2, 2} {
			answers = append(answers, do(t.Context(), q, size))
		}
		close(l.open)
		for _, a := range answers {
			require.NoError(t, (<-a).err)
		}
		require.Equal(t, [][]int{{1}, {4, 6}, {1}, {50}, {2, 2}}, l.sent(), "what is too large goes alone")
	})
}

func TestBatchesUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		set := l.settings()
		set.Parallel = 3
		var goroutines atomic.Int32
		set.Go = func(f func()) {
			goroutines.Add(1)
			go f()
		}
		q := batch.NewQueue(set)
		var answers []chan answer
		for number := range 1000 {
			answers = append(answers, do(t.Context(), q, number))
		}
		require.Len(t, l.sent(), 3)
		require.EqualValues(t, 3, goroutines.Load())
		close(l.open)
		for _, a := range answers {
			require.NoError(t, (<-a).err)
		}
		require.LessOrEqual(t, len(l.sent()), 3+8, "full batches of 128")
	})
}

func TestAbandonedItems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		q := batch.NewQueue(l.settings())
		cause := errors.New("the caller went home")
		ctx, leave := context.WithCancelCause(t.Context())
		first, second, third := do(ctx, q, 1), do(ctx, q, 2), do(t.Context(), q, 3)

		leave(cause)

		a := <-first
		require.ErrorIs(t, a.err, cause)
		require.True(t, a.sent, "it is under way")
		a = <-second
		require.ErrorIs(t, a.err, cause)
		require.False(t, a.sent, "it never left")
		close(l.open)
		require.NoError(t, (<-third).err)
		require.Equal(t, [][]int{{1}, {3}}, l.sent())
	})
}

func TestAnEndedContextSendsNothing(t *testing.T) {
	t.Parallel()
	l := newLine()
	q := batch.NewQueue(l.settings())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sent, err := q.Do(ctx, &item{})
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, sent)
	require.Empty(t, l.sent())
}

// Callers that give up while nothing moves must not leave their items behind.
func TestNothingPilesUpBehindAServerThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		q := batch.NewQueue(l.settings())
		stuck := do(t.Context(), q, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var answers []chan answer
		for number := range 500 {
			answers = append(answers, do(ctx, q, number))
		}
		for _, a := range answers {
			got := <-a
			require.ErrorIs(t, got.err, context.DeadlineExceeded)
			require.False(t, got.sent)
		}
		require.Zero(t, q.Waiting())
		close(l.open)
		require.NoError(t, (<-stuck).err)
		require.Len(t, l.sent(), 1)
	})
}

func TestABatchOutlivesItsCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		set := l.settings()
		set.Timeout = time.Minute
		q := batch.NewQueue(set)
		type key struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "span"), time.Second)
		defer cancel()
		began := time.Now()

		<-do(ctx, q, 1) // the caller and the batch end at the same time, so either may be first
		synctest.Wait()
		assert.Equal(t, "span", l.ctxs[0].Value(key{}), "values of the first caller")
		require.Error(t, l.ctxs[0].Err(), "nobody waits for it")
		require.Equal(t, time.Second, time.Since(began))

		second := do(t.Context(), q, 2)
		<-time.After(time.Minute - 1)
		require.NoError(t, l.ctxs[1].Err())
		require.NoError(t, (<-second).err, "the time of a batch is over, which Send has to report")
		require.Error(t, l.ctxs[1].Err())
	})
}

// lone is a queue whose callers may send by themselves, and what its Send does.
func lone(send func(ctx context.Context, it *item)) *batch.Queue[*item] {
	return batch.NewQueue(batch.Settings[*item]{Timeout: time.Hour, Alone: time.Second, Parallel: 2,
		Send: func(ctx context.Context, items []*item) {
			for _, it := range items {
				send(ctx, it)
			}
		},
	})
}

func TestACallerThatIsAloneSendsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		type seen struct{ own, bounded bool }
		calls := make(chan seen, 1)
		q := lone(func(ctx context.Context, it *item) {
			deadline, _ := ctx.Deadline()
			// Only a call by the caller itself ends with its context.
			leave, _ := ctx.Value(key{}).(context.CancelFunc)
			leave()
			calls <- seen{ctx.Err() != nil, time.Until(deadline) <= time.Second}
			<-time.After(time.Duration(it.number))
		})
		for _, c := range []struct {
			took time.Duration
			own  bool
			why  string
		}{
			{0, false, "it is not known yet how long that takes"},
			{0, true, "quick"},
			{time.Minute, true, "quick until now"},
			{0, false, "slow the last time"},
			{0, true, "quick again"},
		} {
			ctx, leave := context.WithCancel(t.Context())
			began := time.Now()
			sent, err := q.Do(context.WithValue(ctx, key{}, leave), &item{number: int(c.took)})
			require.True(t, sent)
			if c.own {
				require.NoError(t, err, "the item was sent")
				require.Equal(t, c.took, time.Since(began), "whatever becomes of its context")
			}
			synctest.Wait()
			require.Equal(t, seen{c.own, c.own}, <-calls, c.why)
		}
	})
}

func TestOthersDoNotWaitForACallerThatSendsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		q := lone(func(_ context.Context, it *item) {
			if it.number == 1 {
				<-hold
			}
		})
		require.NoError(t, (<-do(t.Context(), q, 0)).err)
		first := do(t.Context(), q, 1)
		require.NoError(t, (<-do(t.Context(), q, 2)).err)
		close(hold)
		require.NoError(t, (<-first).err)
	})
}

// overdue is a context that notices the end of its time when the test says so.
type overdue struct {
	context.Context //nolint:containedctx // it is one

	noticed chan struct{}
}

func (c overdue) Deadline() (time.Time, bool) { return time.Now(), true }
func (c overdue) Done() <-chan struct{}       { return c.noticed }

// An item is not taken by a batch when the time of its caller is over, though its context has not noticed yet: the
// caller would be told that it may have been sent.
func TestAnItemIsNotTakenAfterItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		q := batch.NewQueue(l.settings())
		go func() { _, _ = q.Do(t.Context(), &item{number: 1}) }()
		synctest.Wait()
		ctx := overdue{t.Context(), make(chan struct{})}
		late := make(chan bool, 1)
		go func() {
			sent, _ := q.Do(ctx, &item{number: 2})
			late <- sent
		}()
		synctest.Wait()
		close(l.open)
		synctest.Wait()
		close(ctx.noticed)
		assert.False(t, <-late)
		assert.Equal(t, [][]int{{1}}, l.sent())
	})
}

// detached is a context of somebody's own that has a deadline and never ends.
type detached struct{ context.Context }

func (detached) Done() <-chan struct{} { return nil }
func (detached) Err() error            { return nil }

func TestContextThatNeverEndsButHasADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		close(l.open)
		q := batch.NewQueue(l.settings())
		ctx, cancel := context.WithTimeout(t.Context(), 0)
		defer cancel()
		sent, err := q.Do(detached{ctx}, &item{number: 1})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.False(t, sent)
		assert.Empty(t, l.sent())
	})
}

func TestACallerThatIsAloneWithAContextThatNeverEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := lone(func(ctx context.Context, it *item) {
			if it.number == 1 {
				<-ctx.Done()
			}
		})
		require.NoError(t, (<-do(t.Context(), q, 0)).err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		require.NoError(t, (<-do(detached{ctx}, q, 1)).err)
		require.Equal(t, 50*time.Millisecond, time.Since(began))
	})
}
