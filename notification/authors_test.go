package notification_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/compozy/cache/notification"
)

// author is who publishes events with numbers of his own.
type author struct {
	by int // the number of the author

	mu      sync.Mutex
	last    int
	sent    []int         // published with success
	changes *atomic.Int32 // the number of the failover under way
	during  map[int]int32 // the failover during which a number was sent
}

// said is what authors publish.
type said struct {
	numbered

	By int `json:"by"`
}

func newAuthor(by int, changes *atomic.Int32) *author {
	return &author{by: by, changes: changes, during: make(map[int]int32)}
}

// publishSome publishes events that go on behind a number, and calls sent with those that succeeded. It returns the last.
func publishSome(
	ctx context.Context, n *notification.RedisNotificationSystem, by, last int, sent func(first, last int),
) int {
	task := func() *notification.TaskEvent {
		last++
		return &notification.TaskEvent{ID: "T", WorkflowID: "W", Data: said{numbered{last}, by}}
	}
	for range 10 {
		first := last + 1
		err := n.PublishTaskEvent(ctx, task())
		if err == nil && first%5 == 0 {
			err = n.PublishBatch(ctx, task(), task(), task())
		}
		if err == nil {
			sent(first, last)
		}
	}
	return last
}

// published notes numbers that were published with success.
func (a *author) published(first, last int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := first; n <= last; n++ {
		a.sent = append(a.sent, n)
		if failover := a.changes.Load(); failover > 0 {
			a.during[n] = failover
		}
	}
}

// over notes the last number, after which nothing is published for now.
func (a *author) over(last int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = last
}

func (a *author) sofar() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// lastSent returns the last number that was published with success.
func (a *author) lastSent() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sent) == 0 {
		return 0
	}
	return a.sent[len(a.sent)-1]
}

var errNotHis = errors.New("an event of another author")

// numberOf returns the number of an event, if this is its author.
func (a *author) numberOf(m *notification.Message) (int, error) {
	event, err := notification.Decode[struct {
		Data said `json:"data"`
	}](m)
	if err == nil && event.Data.By != a.by {
		err = errNotHis
	}
	return event.Data.N, err
}
