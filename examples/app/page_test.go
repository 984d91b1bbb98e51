package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx/fxtest"
	"go.uber.org/zap"

	"github.com/compozy/cache"
	"github.com/compozy/cache/health"
)

// hostile is a name that would change the page if it were not escaped.
const hostile = `</td><script src="//evil.example/x.js">&lt;'`

// void is an element that is never closed in HTML.
var void = regexp.MustCompile(`<(meta|link)[^>]*>`)

// page returns the status page as a browser gets it.
func page(t *testing.T, b *Board, checks ...cache.Check) string {
	t.Helper()
	s, err := NewServer(fxtest.NewLifecycle(t), Options{}, b, health.New(checks...), prometheus.NewRegistry(), nil, zap.NewNop())
	require.NoError(t, err)
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusOK, w.Code)
	return w.Body.String()
}

// requireSound reads the page with a parser that forgives nothing: every element is closed, every value escaped, and
// nothing comes from elsewhere.
func requireSound(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(void.ReplaceAllString(page, "$0</$1>")))
	d.Entity = xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err, page)
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		assert.NotEqual(t, "script", element.Name.Local)
		for _, a := range element.Attr {
			if a.Name.Local == "href" || a.Name.Local == "src" {
				local := strings.HasPrefix(a.Value, "/") && !strings.HasPrefix(a.Value, "//")
				assert.True(t, local || a.Value == "data:,", "%s=%q", a.Name.Local, a.Value)
			}
		}
	}
}

func TestPageOfARunThatHasNotBegun(t *testing.T) {
	t.Parallel()
	out := page(t, NewBoard(Options{Run: "live"}, new(Tally)))
	requireSound(t, out)
	assert.Equal(t, 2, strings.Count(out, "none yet"))
}

func TestPageWithEverythingOnIt(t *testing.T) {
	t.Parallel()
	b := NewBoard(Options{Run: "demo", Name: hostile, Workflows: 4}, new(Tally))
	for _, id := range []string{hostile, "whole"} {
		for _, e := range story(id) {
			e.Worker = hostile
			b.Apply(e)
		}
	}
	b.Apply(story("lost")[0])
	b.Wiped()
	for _, e := range story("half")[:2] {
		b.Apply(e)
	}
	b.Gap()

	out := page(t, b,
		cache.Check{Name: hostile, Kind: health.Readiness, Func: func(context.Context) error { return errors.New(hostile) }},
		cache.Check{Name: "fine", Kind: health.Liveness, Func: func(context.Context) error { return nil }})

	requireSound(t, out)
	assert.NotContains(t, out, hostile)
	for _, words := range []string{
		"of 4", "1 gaps", "1 lost with", "width: 50%", "failing", "trying again", "completed", "step done", "step again",
	} {
		assert.Contains(t, out, words)
	}
	for _, path := range []string{"/metrics", "/livez", "/readyz", "/healthz", "/state.json"} {
		assert.Contains(t, out, `href="`+path+`"`)
	}
}
