package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Console prints events, messages and a progress bar so that they do not get into each other's way. It is safe for
// concurrent use.
type Console struct {
	options  Options
	terminal bool // a bar that redraws itself, and colours

	mu   sync.Mutex // guards out and the fields below
	out  io.Writer
	bar  string // what stands in the last line of the terminal, "" for nothing
	told int    // tenths of the work that were told to something that is no terminal
}

// NewConsole prints to out.
func NewConsole(out io.Writer, o Options) *Console {
	c := &Console{out: out, options: o}
	if f, ok := out.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		c.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return c
}

// Write prints one or more whole lines above the bar.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	n, err := c.out.Write(p)
	c.redraw()
	return n, err
}

// Sayf prints a line.
func (c *Console) Sayf(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

// Event prints a line about an event, unless a bar stands for it.
func (c *Console) Event(e Event) {
	if c.options.Batch() && !c.options.Verbose {
		return
	}
	what, colour := describe(e)
	c.Sayf("%s  %-16s %-8s %s %s", c.faint(e.At.Local().Format("15:04:05.000")), e.Workflow, e.Kind,
		c.paint(colour, fmt.Sprintf("%-34s", what)), c.faint(e.Worker))
}

// describe says in words what happened, and in which colour (an SGR code).
func describe(e Event) (words, colour string) {
	switch e.Type {
	case WorkflowStarted:
		return "started", "36"
	case WorkflowResumed:
		return "taken over before " + e.Step, "35"
	case WorkflowDone:
		return "completed", "32;1"
	case StepFailed:
		return fmt.Sprintf("%s failed (%d), trying again", e.Step, e.Attempt), "33"
	case StepDone:
		return e.Step + " done", ""
	}
	return string(e.Type), ""
}

// Progress shows how far a run is: as a bar on a terminal, as a line for each tenth elsewhere.
func (c *Console) Progress(p Picture) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.terminal {
		if tenth := p.Share() / 10; tenth > c.told {
			c.told = tenth
			fmt.Fprintf(c.out, "%s/%d workflows done\n", align(p.Done, p.Total), p.Total)
		}
		return
	}
	const width = 30
	full := width * p.Done / max(p.Total, 1)
	c.clear()
	c.bar = fmt.Sprintf("%s%s %s/%d done, %d running, %d retried  %s",
		c.paint("32", strings.Repeat("█", full)), c.faint(strings.Repeat("░", width-full)),
		align(p.Done, p.Total), p.Total, p.Running, p.Retries,
		c.faint(p.Now.Sub(p.Started).Round(100*time.Millisecond).String()))
	c.redraw()
}

// EndProgress leaves the bar as it is and goes to the next line.
func (c *Console) EndProgress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != "" {
		fmt.Fprintln(c.out)
		c.bar = ""
	}
}

// clear takes the bar away. c.mu is held.
func (c *Console) clear() {
	if c.bar != "" {
		fmt.Fprint(c.out, "\r\x1b[2K")
	}
}

// redraw puts the bar back. c.mu is held.
func (c *Console) redraw() {
	if c.bar != "" {
		fmt.Fprint(c.out, c.bar)
	}
}

func (c *Console) faint(s string) string { return c.paint("2", s) }

func (c *Console) paint(colour, s string) string {
	if !c.terminal || colour == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// align prints a number as wide as the largest one.
func align(n, largest int) string { return fmt.Sprintf("%*d", len(fmt.Sprint(largest)), n) }
