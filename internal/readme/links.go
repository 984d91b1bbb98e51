package readme

import (
	"regexp"
	"strings"
	"unicode"
)

// link finds what a Markdown text links to: [text](target).
var link = regexp.MustCompile(`\]\(<?([^)>\s]+)>?\)`)

// Links returns the targets of the links of a Markdown text that lead neither to
// another site nor are in code.
func Links(markdown string) []string {
	var targets []string
	for line := range prose(markdown) {
		for _, found := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
			if !strings.Contains(found[1], "://") && !strings.HasPrefix(found[1], "mailto:") {
				targets = append(targets, found[1])
			}
		}
	}
	return targets
}

// code finds code within a line.
var code = regexp.MustCompile("`[^`]*`")

// Anchors returns the names by which links reach the headings of a Markdown text, as
// GitHub makes them.
func Anchors(markdown string) map[string]bool {
	anchors := map[string]bool{}
	for line := range prose(markdown) {
		if text := strings.TrimLeft(line, "#"); text != line && strings.HasPrefix(text, " ") {
			anchors[anchor(strings.TrimSpace(text))] = true
		}
	}
	return anchors
}

// anchor returns the name of a heading: small letters, a dash for each blank, and neither
// punctuation nor symbols.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, heading)
}

// prose yields the lines of a Markdown text that are in no block of code.
func prose(markdown string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		inside := false
		for line := range strings.Lines(markdown) {
			if strings.HasPrefix(line, "```") {
				inside = !inside
				continue
			}
			if !inside && !yield(line) {
				return
			}
		}
	}
}
