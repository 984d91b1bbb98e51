package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// goal is what the design promises about a number.
type goal struct {
	bound   float64
	atLeast bool // otherwise at most
	none    bool // nothing is promised; the number is for information
}

func atMost(bound float64) goal  { return goal{bound: bound} }
func atLeast(bound float64) goal { return goal{bound: bound, atLeast: true} }
func noGoal() goal               { return goal{none: true} }

// met compares the number as it was measured, not as it is printed.
func (g goal) met(value float64) bool {
	if g.atLeast {
		return value >= g.bound
	}
	return value <= g.bound
}

// row is one line of the table.
type row struct {
	what, against string
	goal          goal
	value         spread
	unit          string // "×" for ratios
	detail        string // the absolute numbers behind a ratio
}

// count is a number that was not sampled in rounds.
func count(value float64) spread { return spread{median: value, low: value, high: value} }

// verdict says whether the goal was reached.
func (r row) verdict() string {
	switch {
	case r.goal.none:
		return "–"
	case r.goal.met(r.value.median):
		return "met"
	default:
		return "MISSED"
	}
}

func (r row) goalText() string {
	if r.goal.none {
		return "–"
	}
	sign := "≤"
	if r.goal.atLeast {
		sign = "≥"
	}
	return fmt.Sprintf("%s %s %s", sign, number(r.goal.bound), r.unit)
}

func (r row) valueText() string {
	text := number(r.value.median) + " " + r.unit
	if r.value.low != r.value.high {
		text += fmt.Sprintf(" (%s–%s)", number(r.value.low), number(r.value.high))
	}
	return text
}

// number prints three digits or so: more would be noise.
func number(value float64) string {
	switch {
	case value == float64(int64(value)):
		return fmt.Sprintf("%d", int64(value))
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.2f", value)
	}
}

// printReport writes what an operation costs, if that was measured, and then the rows.
func printReport(w io.Writer, r report) error {
	if len(r.costs) > 0 {
		if err := printCosts(w, r.costs); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	return printRows(w, r.rows)
}

// printCosts puts first what users see most of.
func printCosts(w io.Writer, costs []cost) error {
	lines := [][]string{{
		"one operation: ours; theirs", "against", "round trips", "time, link of 1 ms", "server CPU", "client CPU",
		"allocations", "time, loopback",
	}}
	for _, c := range costs {
		lines = append(lines, []string{
			c.operation, c.peer, c.trips, c.link, c.serverCPU, c.clientCPU, c.allocations, c.loopback,
		})
	}
	return printTable(w, lines)
}

func printRows(w io.Writer, rows []row) error {
	lines := [][]string{{"what", "against", "goal", "measured (quartiles)", "goal met", "ours; theirs"}}
	for _, r := range rows {
		lines = append(lines, []string{r.what, r.against, r.goalText(), r.valueText(), r.verdict(), r.detail})
	}
	return printTable(w, lines)
}

// printTable writes a Markdown table that is readable as it is. The first line is its head.
func printTable(w io.Writer, lines [][]string) error {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for n, line := range lines {
		for i, cell := range line {
			text.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+1))
		}
		text.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				text.WriteString("|" + strings.Repeat("-", width+2))
			}
			text.WriteString("|\n")
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// missed counts the rows whose goal was not reached.
func missed(rows []row) int {
	n := 0
	for _, r := range rows {
		if r.verdict() == "MISSED" {
			n++
		}
	}
	return n
}
