package browser

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long something on the page may take on a busy machine.
const patience = 60 * time.Second

// tab is a page in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps the browser in it

	mu   sync.Mutex // guards said
	said []string   // by the console, if it is about something wrong
}

// screen is what the browser pretends to be on.
type screen struct {
	Width, Height int64
	Scheme        string // light or dark
}

// open starts a browser and shows the page at url.
func open(t *testing.T, url string, s screen) *tab {
	t.Helper()
	// Containers have no sandbox for it, and the page is our own.
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox)
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &tab{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == "error" || m.Type == "warning" {
				b.mu.Lock()
				b.said = append(b.said, m.String())
				b.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, chromedp.Cancel(ctx)) // waits until the browser has ended
		cancel()
		stop()
		wg.Wait()
	})
	_, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: s.Width, Height: s.Height, DeviceScaleFactor: 1, Mobile: s.Width < 600,
	})
	require.NoError(t, err)
	_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.Scheme}},
	})
	require.NoError(t, err)
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
	return b
}

// problems returns what the console has said that is wrong, and forgets it.
func (b *tab) problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.said
	b.said = nil
	return all
}

// is evaluates an expression on the page.
func is[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err, expression)
	return v
}

// eventually waits until an expression is true.
func (b *tab) eventually(expression string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for !is[bool](b, expression) {
		require.True(b.t, time.Now().Before(deadline), expression)
	}
}

// reads waits until an element has all of the words in it.
func (b *tab) reads(selector string, words ...string) {
	b.t.Helper()
	var all []string
	for _, w := range words {
		all = append(all, fmt.Sprintf("document.querySelector(%q).textContent.includes(%q)", selector, w))
	}
	b.eventually(strings.Join(all, " && "))
}

// press presses a key on what has the focus.
func (b *tab) press(keys string) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, chromedp.KeyEvent(keys)))
}
