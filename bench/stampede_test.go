package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serve has a stampeder do a task as in a process.
func serve(t *testing.T, get stampeder, task stampedeTask) (a stampedeAnswer) {
	t.Helper()
	line, err := json.Marshal(task)
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, serveStampedes(t.Context(), strings.NewReader(string(line)), &out, get))
	require.NoError(t, json.Unmarshal([]byte(out.String()), &a))
	return a
}

func TestAnswersOfAProcess(t *testing.T) {
	t.Parallel()
	alone := func(ctx context.Context, _ string, load textLoader) (string, error) { return load(ctx) }
	shared := func() stampeder {
		var once sync.Once
		var v string
		var err error
		return func(ctx context.Context, _ string, load textLoader) (string, error) {
			once.Do(func() { v, err = load(ctx) })
			return v, err
		}
	}
	hangs := func(ctx context.Context, _ string, _ textLoader) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	lies := func(context.Context, string, textLoader) (string, error) { return "something else", nil }
	for name, test := range map[string]struct {
		get  stampeder
		fail bool
		want stampedeAnswer
	}{
		"each loads":       {alone, false, stampedeAnswer{Loads: 5, Values: 5}},
		"one loads":        {shared(), false, stampedeAnswer{Loads: 1, Values: 5}},
		"one load fails":   {shared(), true, stampedeAnswer{Loads: 1, Err: errLoader.Error()}},
		"all give up":      {hangs, false, stampedeAnswer{GaveUp: 5}},
		"a value is wrong": {lies, false, stampedeAnswer{Err: `wrong value "something else"`}},
	} {
		limit := 10 * time.Second
		if name == "all give up" {
			limit = time.Millisecond
		}
		got := serve(t, test.get, stampedeTask{Key: "k", Callers: 5, Limit: limit, Fail: test.fail})
		got.Busy = 0
		require.Equal(t, test.want, got, name)
	}
}

func TestAStampedeMustBeServed(t *testing.T) {
	t.Parallel()
	const callers = stampedeProcesses * stampedeCallers
	require.NoError(t, stampedeAnswer{Values: callers}.check(false))
	require.Error(t, stampedeAnswer{Values: callers - 1, GaveUp: 1}.check(false))
	require.NoError(t, stampedeAnswer{GaveUp: callers}.check(true))
	require.Error(t, stampedeAnswer{Values: 1}.check(true))
}

func TestStampedeRows(t *testing.T) {
	t.Parallel()
	ours, peer := &stampedes{name: "ours"}, &stampedes{name: "peer"}
	for round, commands := range []int{8, 10, 9} {
		ours.add(stampedeLoad, time.Millisecond, stampedeAnswer{Loads: 1}, map[string]int{"get": commands, "time": 7, "info": 1})
		peer.add(2*stampedeLoad, time.Millisecond, stampedeAnswer{Loads: 4, GaveUp: round + 1}, map[string]int{"get": 4})
	}
	rows := stampedeRows("what", []*stampedes{ours, peer})
	require.Len(t, rows, 4)
	require.Equal(t, "met", rows[0].verdict())
	require.InDelta(t, 10, rows[1].value.median, 0, "the worst round")
	require.Equal(t, "MISSED", rows[1].verdict())
	require.Equal(t, "10 get", rows[1].detail)
	require.InDelta(t, 1, rows[2].value.median, 0)
	require.InDelta(t, 0.5, rows[3].value.median, 0)
	require.Equal(t, "peer", rows[3].against)
	require.Equal(t, "theirs: 200ms, 4 loads, 4 commands, CPU 0s + server 1ms, 2 callers gave up", rows[3].detail)
}

func TestSpell(t *testing.T) {
	t.Parallel()
	perOp, names := spell(map[string]int{"get": 4, "evalsha": 2, "time": 9}, 4)
	require.InDelta(t, 1.5, perOp, 0)
	require.Equal(t, "0.50 evalsha, 1 get", names)
}

func TestExpectations(t *testing.T) {
	t.Parallel()
	require.NoError(t, expect(newProfile("k"), "k", nil))
	require.Error(t, expect(newProfile("k"), "other", nil))
	broken := errors.New("broken")
	require.ErrorIs(t, expect(profile{}, "k", broken), broken)
	require.NoError(t, expectAll(nil, nil, nil))
	require.Error(t, expectAll(nil, storeKeys("k"), nil))
	raw, err := json.Marshal(newProfile("some-key"))
	require.NoError(t, err)
	require.InDelta(t, 200, len(raw), 50)
}
