package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"go.uber.org/zap"
)

// replaceAfter is how long after the death of a helper another one takes its place.
const replaceAfter = 4 * time.Second

var errNoHelper = errors.New("no helper runs just now")

// Helpers are further processes of this program. They only work, and this one starts and may kill them. It is safe for
// concurrent use.
type Helpers struct {
	options Options
	redis   *server
	diary   *Diary
	console *Console
	log     *zap.Logger

	wg     sync.WaitGroup
	cancel context.CancelFunc

	mu      sync.Mutex // guards the fields below
	started int
	running map[string]*os.Process
}

// NewHelpers returns none yet.
func NewHelpers(o Options, redis *server, d *Diary, c *Console, log *zap.Logger) *Helpers {
	return &Helpers{
		options: o, redis: redis, diary: d, console: c, log: log, cancel: func() {}, running: make(map[string]*os.Process),
	}
}

// Start starts as many as the options say, and replaces them when they die, until Stop.
func (h *Helpers) Start(ctx context.Context) {
	ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for range h.options.Helpers {
		h.wg.Go(func() {
			for ctx.Err() == nil {
				if err := h.run(ctx); err != nil && ctx.Err() == nil {
					h.log.Info("helper ended", zap.Error(err))
				}
				_ = pause(ctx, replaceAfter)
			}
		})
	}
}

// Stop lets all end in order, and waits for them.
func (h *Helpers) Stop() {
	h.cancel()
	h.wg.Wait()
}

// run is the life of one helper.
func (h *Helpers) run(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.started++
	name := fmt.Sprintf("helper-%d", h.started)
	h.mu.Unlock()

	o := h.options
	cmd := exec.CommandContext(ctx, program, "-helper", "-run", o.Run, "-name", name, //nolint:gosec // this program itself
		"-workers", fmt.Sprint(o.Workers), "-step", o.Step.String(), "-failures", fmt.Sprint(o.Failures))
	if cmd.Env = os.Environ(); h.redis.URL != "" {
		cmd.Env = append(cmd.Env, "REDIS_URL="+h.redis.URL)
	}
	cmd.Stderr = h.console // what it prints, this process hears as events
	// It ends when its input does: with this process, however that ends, and in order.
	leash, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	cmd.Cancel = leash.Close
	cmd.WaitDelay = helperPatience
	if err := cmd.Start(); err != nil {
		return err
	}
	h.mu.Lock()
	h.running[name] = cmd.Process
	h.mu.Unlock()
	h.console.Sayf("%s joins: another process that works for this run", name)
	defer func() {
		h.mu.Lock()
		delete(h.running, name)
		h.mu.Unlock()
	}()
	return cmd.Wait()
}

// helperPatience is how long a helper may take to end before it is killed.
const helperPatience = 5 * time.Second

// Kill kills a helper, as a machine that fails would: nothing is released, nobody says goodbye. It returns its name.
func (h *Helpers) Kill() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, process := range h.running {
		return name, process.Kill()
	}
	return "", errNoHelper
}

// leashed returns a context that ends with the input, which a helper has from the process that started it.
func leashed(ctx context.Context, input io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, input) // an error is an end, too
	}()
	return ctx
}
