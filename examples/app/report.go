package main

import (
	"fmt"
	"strings"
	"time"
)

// report prints the summary table of a run and what is wrong with it, if anything is.
func report(c *Console, v Verdict, mine *Tally) {
	var out strings.Builder
	row := func(what string, here, all any) { fmt.Fprintf(&out, "%-18s %14v %14v\n", what, here, all) }

	row("", "this process", "whole run")
	row("workflows done", mine.Workflows.Load(), fmt.Sprintf("%d of %d", v.Done, v.Total))
	row("steps done", mine.Steps.Load(), v.Steps)
	row("steps retried", mine.Retries.Load(), v.Retries)
	row("taken over", mine.Takeovers.Load(), v.Takeovers)
	row("results refused", mine.Refused.Load(), v.Refused)
	row("lock waits", mine.LockWaits.Load(), v.LockWaits)
	row("events published", mine.Published.Load(), v.Published)
	row("events received", v.Received, "")
	row("time", v.Took.Round(10*time.Millisecond), "")
	out.WriteByte('\n')
	if v.Before > 0 {
		fmt.Fprintf(&out, "%d events were out before this process listened; those need not have come.\n", v.Before)
	}
	for _, gap := range v.Gaps {
		fmt.Fprintf(&out, "The subscription may have missed events, %s\n", gap)
	}
	if v.OK() {
		fmt.Fprintln(&out, c.paint("32;1", "Every workflow ran, once, and every event came or is accounted for."))
	} else {
		fmt.Fprintln(&out, c.paint("31;1", fmt.Sprintf("%d problems:", len(v.Problems))))
		for _, p := range v.Problems {
			fmt.Fprintf(&out, "  %s\n", p)
		}
	}
	c.Sayf("\n%s", strings.TrimRight(out.String(), "\n"))
}
