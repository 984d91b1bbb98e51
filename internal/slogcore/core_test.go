package slogcore_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/slogcore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// written returns a logger, and a function that returns what it wrote last, as JSON.
func written(t *testing.T, opts slog.HandlerOptions) (*zap.Logger, func() string) {
	t.Helper()
	var out bytes.Buffer
	replace := opts.ReplaceAttr
	opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		if replace != nil {
			return replace(groups, a)
		}
		return a
	}
	log, err := slogcore.New("l", slog.New(slog.NewJSONHandler(&out, &opts)))
	require.NoError(t, err)
	return log, func() string {
		defer out.Reset()
		return string(bytes.TrimSpace(out.Bytes()))
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	log, last := written(t, slog.HandlerOptions{Level: slog.LevelDebug})
	for level, want := range map[zapcore.Level]string{
		zap.DebugLevel: "DEBUG", zap.InfoLevel: "INFO", zap.WarnLevel: "WARN", zap.ErrorLevel: "ERROR", zap.DPanicLevel: "ERROR+4",
	} {
		log.Log(level, "m")
		assert.Equal(t, `{"level":"`+want+`","msg":"m"}`, last())
	}
	log, last = written(t, slog.HandlerOptions{Level: slog.LevelWarn})
	log.Info("m")
	assert.Empty(t, last(), "the handler decides")
	assert.False(t, log.Core().Enabled(zap.InfoLevel))
	log.Warn("m")
	assert.NotEmpty(t, last())
	require.NoError(t, log.Sync())
}

type point struct{ x, y int }

func (p point) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddInt("x", p.x)
	e.AddInt("y", p.y)
	return e.AddObject("inner", zapcore.ObjectMarshalerFunc(func(e zapcore.ObjectEncoder) error {
		e.AddDuration("d", time.Second)
		return nil
	}))
}

// secret shows itself to slog as something else.
type secret string

func (secret) LogValue() slog.Value { return slog.StringValue("***") }

func TestFields(t *testing.T) {
	t.Parallel()
	log, last := written(t, slog.HandlerOptions{})
	for _, tc := range []struct {
		fields []zap.Field
		want   string
	}{
		{nil, ``},
		{[]zap.Field{zap.String("b", "s"), zap.Int("a", 1)}, `,"b":"s","a":1`}, // in their order
		{[]zap.Field{zap.Bool("k", true), zap.Uint64("u", 7), zap.Float64("f", 1.5)}, `,"k":true,"u":7,"f":1.5`},
		{[]zap.Field{zap.Duration("k", time.Second)}, `,"k":1000000000`},
		{[]zap.Field{zap.Time("k", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}, `,"k":"2026-01-02T03:04:05Z"`},
		{[]zap.Field{zap.Error(errors.New("bad")), zap.NamedError("also", errors.New("worse"))}, `,"error":"bad","also":"worse"`},
		{[]zap.Field{zap.Error(nil), zap.Skip()}, ``},
		{[]zap.Field{zap.Strings("k", []string{"a", "b"}), zap.ByteString("t", []byte("text"))}, `,"k":["a","b"],"t":"text"`},
		{[]zap.Field{zap.Stringer("k", zap.WarnLevel)}, `,"k":"warn"`},
		{[]zap.Field{zap.Any("k", secret("hunter2")), zap.Any("m", map[string]int{"n": 1})}, `,"k":"***","m":{"n":1}`},
		{[]zap.Field{zap.Object("k", point{1, 2})}, `,"k":{"inner":{"d":1000000000},"x":1,"y":2}`},
		{[]zap.Field{zap.Inline(point{1, 2})}, `,"inner":{"d":1000000000},"x":1,"y":2`},
		{[]zap.Field{zap.Dict("k", zap.Int("a", 1), zap.Error(errors.New("bad")))}, `,"k":{"a":1,"error":"bad"}`},
		{[]zap.Field{zap.Int("a", 1), zap.Namespace("n"), zap.Int("b", 2), zap.Namespace("o"), zap.Int("c", 3)},
			`,"a":1,"n":{"b":2,"o":{"c":3}}`},
	} {
		log.Info("m", tc.fields...)
		assert.Equal(t, `{"level":"INFO","msg":"m"`+tc.want+`}`, last())
	}
}

func TestWithAndNamed(t *testing.T) {
	t.Parallel()
	log, last := written(t, slog.HandlerOptions{})
	parent := log.With(zap.String("a", "1"))
	child := parent.Named("redis").With(zap.Namespace("n"), zap.String("b", "2")).Named("pool")
	other := parent.With(zap.String("o", "3"))

	for _, tc := range []struct {
		log  *zap.Logger
		want string
	}{
		{child, `,"logger":"redis.pool","a":"1","n":{"b":"2","c":"4"}}`},
		{other, `,"a":"1","o":"3","c":"4"}`},
		{parent, `,"a":"1","c":"4"}`},
	} {
		tc.log.Info("m", zap.String("c", "4"))
		assert.Equal(t, `{"level":"INFO","msg":"m"`+tc.want, last())
	}
}

// What the application has set on its logger holds for ours.
func TestAttributesAndGroupsOfTheApplication(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := slogcore.New("l", slog.New(slog.NewJSONHandler(&out, nil)).With("app", "orders").WithGroup("cache"))
	require.NoError(t, err)
	log.Info("m", zap.Int("n", 1))
	var got map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	assert.Equal(t, "orders", got["app"])
	assert.Equal(t, map[string]any{"n": 1.0}, got["cache"])
	assert.NotEmpty(t, got["time"])
}

func TestCaller(t *testing.T) {
	t.Parallel()
	log, last := written(t, slog.HandlerOptions{AddSource: true})
	_, file, line, _ := runtime.Caller(0)
	log.Info("m")
	var got struct{ Source slog.Source }
	require.NoError(t, json.Unmarshal([]byte(last()), &got))
	assert.Equal(t, line+1, got.Source.Line)
	assert.Equal(t, filepath.Base(file), filepath.Base(got.Source.File))
	assert.Contains(t, got.Source.Function, "TestCaller")

	log.WithOptions(zap.WithCaller(false)).Info("m")
	assert.NotContains(t, last(), "core.go", "no caller is no address")
}

// Handlers get errors as errors.
func TestErrorsStayErrors(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	var got any
	log, _ := written(t, slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "error" {
			got = a.Value.Any()
		}
		return a
	}})
	log.Info("m", zap.Error(bad))
	assert.Equal(t, bad, got)
}

func TestNothingToLogTo(t *testing.T) {
	t.Parallel()
	for _, l := range []*slog.Logger{nil, {}} {
		_, err := slogcore.New("WithSlog", l)
		var wrong *arguments.Error
		require.ErrorAs(t, err, &wrong)
		assert.Equal(t, "WithSlog", wrong.Argument)
	}
}
