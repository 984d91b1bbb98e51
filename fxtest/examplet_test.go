package fxtest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// exampleT stands for the *testing.T that examples do not have.
type exampleT struct {
	testing.TB // nil: what examples do not use is missing
	cleanups   []func()
}

func newT() *exampleT { return &exampleT{} }

func (t *exampleT) Helper()                           {}
func (t *exampleT) Logf(string, ...any)               {}
func (t *exampleT) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleT) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *exampleT) FailNow()                          { panic("failed") }
func (t *exampleT) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Context() context.Context          { return context.Background() }

// finish does what happens at the end of a test.
func (t *exampleT) finish() {
	for _, cleanup := range slices.Backward(t.cleanups) {
		cleanup()
	}
}
