package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// processEnv makes this program a process of a stampede: the variable has the address of a server, a space, and the name of
// a stampeder.
const processEnv = "CACHE_BENCH_PROCESS"

// errLoader is the error of loaders that fail.
var errLoader = errors.New("the database is down")

// stampedeTask is what a process is to do, one line of JSON.
type stampedeTask struct {
	Key     string
	Callers int
	Delay   time.Duration // of the loader
	Limit   time.Duration // of the callers
	Fail    bool
}

// stampedeAnswer is what has come of it, likewise.
type stampedeAnswer struct {
	Loads  int
	Values int           // how many callers have the value
	GaveUp int           // how many had to
	Busy   time.Duration // of the processor
	Err    string        // one of those of the others
}

// serveProcess is the main function of such a process. It ends when its input does.
func serveProcess(what string) error {
	addr, name, _ := strings.Cut(what, " ")
	newStampeder, ok := stampeders()[name]
	if !ok {
		return fmt.Errorf("no stampeder has the name %q", name)
	}
	return run(func(s *scope) error {
		get, err := newStampeder(s, addr)
		if err != nil {
			return err
		}
		return serveStampedes(context.Background(), os.Stdin, os.Stdout, get)
	})
}

// serveStampedes answers tasks until there are no more.
func serveStampedes(ctx context.Context, in io.Reader, out io.Writer, get stampeder) error {
	tasks, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var t stampedeTask
		if err := tasks.Decode(&t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(t.do(ctx, get)); err != nil {
			return err
		}
	}
}

// value is what loaders return: some 200 bytes.
func (t stampedeTask) value() string { return t.Key + strings.Repeat(" of 200 bytes", 15) }

// do lets all callers ask at once.
func (t stampedeTask) do(ctx context.Context, get stampeder) stampedeAnswer {
	ctx, cancel := context.WithTimeout(ctx, t.Limit)
	defer cancel()
	var (
		loads atomic.Int64
		all   sync.WaitGroup
		mu    sync.Mutex // protects a
		a     stampedeAnswer
	)
	load := func(ctx context.Context) (string, error) {
		loads.Add(1)
		if err := pause(ctx, t.Delay); err != nil {
			return "", err
		}
		if t.Fail {
			return "", errLoader
		}
		return t.value(), nil
	}
	before := processorTime()
	for range t.Callers {
		all.Go(func() {
			v, err := get(ctx, t.Key, load)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				a.GaveUp++
			case err != nil:
				a.Err = err.Error()
			case v != t.value():
				a.Err = fmt.Sprintf("wrong value %q", v)
			default:
				a.Values++
			}
		})
	}
	all.Wait()
	a.Loads, a.Busy = int(loads.Load()), processorTime()-before
	return a
}

// process is such a process.
type process struct {
	tasks   *json.Encoder
	answers *json.Decoder
}

// startProcess starts a process that lasts as long as the scope or ctx.
func startProcess(ctx context.Context, s *scope, addr, stampeder string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), processEnv+"="+addr+" "+stampeder)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.Cleanup(func() {
		_ = in.Close() // it ends by that
		_ = cmd.Wait()
	})
	return &process{json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))}, nil
}

// together has processes do a task at the same time, and returns what has come of it in all.
func together(processes []*process, t stampedeTask) (total stampedeAnswer, err error) {
	for _, p := range processes {
		if err := p.tasks.Encode(t); err != nil {
			return total, fmt.Errorf("a process has ended: %w", err)
		}
	}
	for _, p := range processes {
		var a stampedeAnswer
		if err := p.answers.Decode(&a); err != nil {
			return total, fmt.Errorf("a process has ended: %w", err)
		}
		total.Loads += a.Loads
		total.Values += a.Values
		total.GaveUp += a.GaveUp
		total.Busy += a.Busy
		if a.Err != "" {
			total.Err = a.Err
		}
	}
	return total, nil
}
