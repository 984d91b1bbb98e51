// Package slogcore makes a *zap.Logger that writes to a *slog.Logger.
package slogcore

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/compozy/cache/internal/arguments"
)

// New returns a logger whose entries l gets. An l that is nil or empty is an *arguments.Error, which names argument.
func New(argument string, l *slog.Logger) (*zap.Logger, error) {
	if l == nil || l.Handler() == nil {
		return nil, &arguments.Error{Argument: argument, Reason: "is nil, or a slog.Logger that slog.New did not make"}
	}
	return zap.New(core{handler: l.Handler()}, zap.AddCaller()), nil
}

// core keeps the fields of With, so that the name of the logger stays outside of the namespaces that they open.
type core struct {
	handler slog.Handler
	fields  []zap.Field
}

// level maps debug, info, warn and error to their namesakes, and what is above error to levels above slog.LevelError.
func level(l zapcore.Level) slog.Level         { return slog.Level(l) * slog.LevelWarn }
func (core) Sync() error                       { return nil }
func (c core) Enabled(l zapcore.Level) bool    { return c.handler.Enabled(context.Background(), level(l)) }
func (c core) With(f []zap.Field) zapcore.Core { return core{c.handler, slices.Concat(c.fields, f)} }
func (c core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return checked
	}
	return checked.AddCore(e, c)
}

func (c core) Write(e zapcore.Entry, fields []zap.Field) error {
	r := slog.NewRecord(e.Time, level(e.Level), e.Message, 0)
	if e.Caller.Defined {
		r.PC = e.Caller.PC + 1 // zap has the address of the call, slog wants the one behind it
	}
	if e.LoggerName != "" {
		r.AddAttrs(slog.String("logger", e.LoggerName))
	}
	r.AddAttrs(attrs(slices.Concat(c.fields, fields))...)
	return c.handler.Handle(context.Background(), r)
}

// attrs keeps errors as they are, for handlers that look at them. A namespace is a group with all that follows it.
func attrs(fields []zap.Field) (out []slog.Attr) {
	for i, f := range fields {
		switch f.Type {
		case zapcore.NamespaceType:
			return append(out, slog.Any(f.Key, attrs(fields[i+1:]))) // a []slog.Attr is a group
		case zapcore.ErrorType:
			out = append(out, slog.Any(f.Key, f.Interface))
		default:
			encoder := zapcore.NewMapObjectEncoder()
			f.AddTo(encoder)
			out = append(out, group(encoder.Fields)...)
		}
	}
	return out
}

// group sorts the members of an object, as zap's map has no order.
func group(object map[string]any) (out []slog.Attr) {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if inner, ok := object[key].(map[string]any); ok {
			object[key] = group(inner)
		}
		out = append(out, slog.Any(key, object[key]))
	}
	return out
}
