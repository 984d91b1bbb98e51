package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	desktop = screen{1280, 900, "light"}
	phone   = screen{390, 844, "dark"}
)

// hostile is a name that would change the page if it were not shown as text, and that fits on no phone.
const hostile = `<img src=x onerror=alert(1)>&lt;'"`

func TestPageIsAlive(t *testing.T) {
	t.Parallel()
	p := start(t, "-addr", "127.0.0.1:0", "-name", hostile, "-step", "400ms")
	b := open(t, "http://"+p.addr(), desktop)

	is[bool](b, "window.here = true")
	b.reads("#process", hostile)
	b.eventually("document.querySelectorAll('#flows .step.now').length > 0")
	b.eventually("document.querySelectorAll('#flows .finished').length > 0")
	b.eventually("parseInt(document.querySelector('#link').textContent.slice('live, '.length)) > 10") // as they happen
	b.reads("#locks", "workflow/live-", ", token ", " s")
	b.reads("#locks", "packing-table/live")
	b.reads("#locks", hostile+"/")
	b.reads("#locks", "helper-1/")
	b.eventually("document.querySelectorAll('#processes .ok').length == 2")
	b.reads("#fresh", "fresh")
	b.eventually("parseInt(document.querySelector('#fresh').textContent.slice('fresh '.length)) > 0")
	b.reads("#health", "redis", "ok")
	b.eventually("document.querySelector('#chart .curve').getBBox().height > 0")
	b.eventually("document.title.startsWith('1')") // tens of workflows: the numbers move

	assert.True(t, is[bool](b, "window.here"), "nothing was loaded again")
	assert.Zero(t, is[int](b, "document.images.length"))
	assert.Empty(t, b.problems())
	b.shoot("alive")
}

// Tall and narrow, wide, and with the longest words: nothing has to be scrolled sideways, in the light and in the dark.
func TestPageOnAPhoneInTheDark(t *testing.T) {
	t.Parallel()
	p := start(t, "-addr", "127.0.0.1:0", "-name", strings.Repeat("long", 40), "-run", strings.Repeat("r", 40))
	url := "http://" + p.addr()
	luminance := make(map[string]float64)
	for _, s := range []screen{phone, {390, 844, "light"}, desktop, {1280, 900, "dark"}} {
		b := open(t, url, s)
		b.reads("#locks", "workflow/")
		b.reads("#processes", "helper-1")
		b.reads("#diary", "helper-1")
		b.eventually("document.querySelectorAll('#flows .finished').length > 0")
		assert.LessOrEqual(t, is[int64](b, "document.documentElement.scrollWidth"), s.Width, s)
		assert.Empty(t, is[[]string](b, `[...document.querySelectorAll("main *")].filter(e => !e.closest("svg")
			&& e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML)`), s)
		// The sum of red, green and blue is good enough for a page that is nearly grey.
		luminance[s.Scheme] = is[float64](b, `getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((a, c) => a + +c, 0)`)
		for _, text := range []string{"body", ".faint", "#flows .finished", "button span"} {
			assert.Greater(t, is[float64](b, contrast(text)), 4.5, "%s %v", text, s)
		}
		assert.Empty(t, b.problems(), s)
		b.shoot(fmt.Sprint(s.Width, s.Scheme))
	}
	assert.Greater(t, luminance["light"], 600.0)
	assert.Less(t, luminance["dark"], 150.0)
}

// contrast is an expression for how well the text of an element can be told from what is behind it, from 1 to 21.
func contrast(selector string) string {
	return fmt.Sprintf(`(() => {
		const rgb = s => s.match(/[\d.]+/g).map(Number);
		const light = c => c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
			.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
		const e = document.querySelector(%q);
		let behind = e;
		while (rgb(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
		const back = rgb(getComputedStyle(behind).backgroundColor);
		let opacity = 1;
		for (let p = e; p; p = p.parentElement) opacity *= getComputedStyle(p).opacity;
		const text = rgb(getComputedStyle(e).color).slice(0, 3).map((v, i) => v * opacity + back[i] * (1 - opacity));
		const [a, b] = [light(text), light(back)].sort((x, y) => y - x);
		return (a + .05) / (b + .05);
	})()`, selector)
}

// The server goes away and another one comes, as in a deployment: the page goes on by itself.
func TestPageResumesWhenTheServerIsBack(t *testing.T) {
	t.Parallel()
	first := start(t, "-addr", "127.0.0.1:0", "-name", "first", "-step", "50ms", "-helpers", "0")
	b := open(t, "http://"+first.addr(), desktop)
	is[bool](b, "window.here = true")
	b.reads("#process", "first")
	b.reads("#link", "live")
	b.eventually("document.querySelectorAll('#flows .finished').length > 0")
	require.Empty(t, b.problems())

	first.stop()
	b.reads("#link", "server away")

	second := start(t, "-addr", first.addr(), "-name", "second", "-step", "50ms", "-helpers", "0")
	second.addr()
	b.reads("#process", "second")
	b.reads("#link", "live")
	before := is[string](b, "document.querySelector('#link').textContent")
	b.eventually(fmt.Sprintf("document.querySelector('#link').textContent.startsWith('live') && document.querySelector('#link').textContent != %q", before))
	assert.True(t, is[bool](b, "window.here"), "nothing was loaded again")
	for _, said := range b.problems() { // the browser says that it could not connect, which nobody can keep it from
		assert.Regexp(t, `net::ERR_|Failed to load resource`, said)
	}
}

// Each button does what it says, and the page says what the program did then. All by keyboard.
func TestButtons(t *testing.T) {
	t.Parallel()
	p := start(t, "-addr", "127.0.0.1:0", "-name", "page", "-every", "300ms")
	b := open(t, "http://"+p.addr(), desktop)
	b.reads("#locks", "workflow/")
	b.reads("#diary", "Process helper-1 joins")

	b.push("kill")
	b.push("database")
	b.push("burst")
	b.push("drop")
	b.reads("#diary", "was deleted in Redis, behind the back of", "was told that its lock is gone", "goes on with")
	b.reads("#diary", "A burst of 500 events", "without a gap")
	b.reads("#diary", "Process helper-1 was killed", "Process helper-1 has fallen silent", "Process helper-2 joins")
	b.reads("#diary", "The database of the customers fails", "marks it as stale")
	b.eventually("parseInt(document.querySelector('#stale').textContent.slice('stale '.length)) > 0")

	b.push("pause")
	b.reads("#diary", "Redis is paused", "Redis does not answer")
	b.reads("#ready", "not ready")
	b.push("pause")
	b.reads("#said", "Not now: it is paused already.")
	b.shoot("paused")
	b.reads("#diary", "Redis answers again")
	b.eventually("document.querySelector('#ready').textContent == 'ready'")
	b.eventually("document.querySelectorAll('#chart .down').length > 1")

	b.push("flush")
	b.reads("#diary", "All that was in Redis was deleted", "(gap: wiped)")
	b.eventually("document.querySelectorAll('#chart .gap').length > 0")
	b.shoot("broken")
	assert.Equal(t, "polite", is[string](b, "document.querySelector('#diary').ariaLive"))
	assert.Empty(t, b.problems())
	p.stop()
}

// push presses a button as somebody without a mouse does: it must be reached, be seen to have the focus, and keep it.
func (b *tab) push(name string) {
	b.t.Helper()
	is[bool](b, "(document.activeElement.blur(), true)")
	button := fmt.Sprintf("document.activeElement.id == %q", "break-"+name)
	for n := 0; !is[bool](b, button); n++ {
		require.Less(b.t, n, 30, "no way to %s by keyboard", name)
		b.press(kb.Tab)
	}
	require.NotEqual(b.t, "none", is[string](b, "getComputedStyle(document.activeElement).outlineStyle"))
	b.press(kb.Enter)
	require.True(b.t, is[bool](b, button), "the focus stays")
}
