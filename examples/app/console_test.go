package main

import (
	"bytes"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProgressWithoutTerminalIsALineForEachTenth(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := NewConsole(&out, Options{Workflows: 20})
	for done := range 21 {
		c.Progress(Picture{Total: 20, Done: done})
		c.Progress(Picture{Total: 20, Done: done})
	}
	c.EndProgress()
	assert.Equal(t, 10, bytes.Count(out.Bytes(), []byte("\n")), out.String())
	assert.Contains(t, out.String(), " 2/20 workflows done\n")
	assert.NotContains(t, out.String(), "\x1b")
}

func TestLinesGoAboveTheBar(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := NewConsole(&out, Options{Workflows: 20})
	c.terminal = true
	c.Progress(Picture{Total: 20, Done: 5})
	bar := out.String()
	out.Reset()
	c.Sayf("a line")
	assert.Equal(t, "\r\x1b[2Ka line\n"+bar, out.String())
}

func TestEventsAreLinesUnlessABarStandsForThem(t *testing.T) {
	t.Parallel()
	for want, o := range map[int]Options{0: {Workflows: 1}, 1: {Workflows: 1, Verbose: true}} {
		var out bytes.Buffer
		NewConsole(&out, o).Event(Event{Workflow: "run-1", Type: StepFailed, Step: "pack", Attempt: 2, At: time.Now()})
		assert.Equal(t, want, bytes.Count(out.Bytes(), []byte("pack failed (2), trying again")))
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	live, err := parseOptions(nil, &out)
	require.NoError(t, err)
	assert.Equal(t, "live", live.Run, "processes without a name share one")
	assert.False(t, live.Batch())
	assert.False(t, live.fixedAddr)

	one, err := parseOptions([]string{"-workflows", "3", "-addr", "127.0.0.1:9"}, &out)
	require.NoError(t, err)
	other, err := parseOptions([]string{"-workflows", "3"}, &out)
	require.NoError(t, err)
	assert.NotEqual(t, one.Run, other.Run, "a run with an end is a new one")
	assert.True(t, one.fixedAddr)
	assert.Empty(t, out.String())
}

func TestOptionsReportAllMistakes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, err := parseOptions([]string{"-workers", "0", "-run", "a b", "-failures", "-1", "-every", "0s", "-patience", "1s", "x"}, &out)
	require.Error(t, err)
	for _, name := range []string{"-workers", "-run", "-failures", "-every", "-patience", `["x"]`} {
		assert.ErrorContains(t, err, name)
		assert.Contains(t, out.String(), name)
	}
	_, err = parseOptions([]string{"-h"}, &out)
	require.ErrorIs(t, err, flag.ErrHelp)
	assert.Contains(t, out.String(), "-workflows")
}
