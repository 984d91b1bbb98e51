package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// clean removes from the texts of c what can only have got there by mistake. It runs
// once, when a Config becomes complete.
func (c *Config) clean() {
	v := reflect.ValueOf(c).Elem()
	for _, f := range fields() {
		switch fv := v.Field(f.index); fv.Kind() {
		case reflect.String:
			fv.SetString(trim(f, fv.String()))
		case reflect.Slice:
			for i := range fv.Len() {
				fv.Index(i).SetString(trim(f, fv.Index(i).String()))
			}
		}
	}
}

// trim returns s without the line break that a mounted secret, a file or echo leaves
// at its end, and addresses without blanks around them. A text of nothing else stays
// as it is, to be refused: it is not the same as none.
func trim(f field, s string) string {
	t := trimLineBreak(s)
	if f.url || f.addr {
		t = strings.TrimSpace(s)
	}
	if t == "" {
		return s
	}
	return t
}

// trimLineBreak removes one line break at the end of s.
func trimLineBreak(s string) string {
	return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
}

// checkText returns what is allowed for a text in place of s, or "". It finds what is
// wrong in any field, and would otherwise show as a wrong password or an unknown host.
func checkText(f field, s string) string {
	switch {
	case strings.ContainsAny(s, "\r\n"):
		return "a value without a line break in it"
	case isQuoted(s):
		return "a value without the quotes around it"
	case f.secret && isPlaceholder(s), !f.secret && !f.url && hasPlaceholder(s):
		return "a value with its variables filled in"
	}
	return ""
}

// isQuoted reports whether quotes of any kind stand around s: a shell would have
// taken them away, but env files and manifests keep them.
func isQuoted(s string) bool {
	return len(s) >= 2 && s[0] == s[len(s)-1] && strings.ContainsRune("\"'`", rune(s[0]))
}

// hasPlaceholder reports whether s contains a variable that was not filled in:
// $(NAME), ${NAME} or {{ name }}.
func hasPlaceholder(s string) bool {
	_, _, found := cutPlaceholder(s)
	return found
}

// isPlaceholder reports whether s is nothing but one such variable. Less would refuse
// secrets that happen to look similar.
func isPlaceholder(s string) bool {
	before, after, found := cutPlaceholder(strings.TrimSpace(s))
	return found && before == "" && after == ""
}

// cutPlaceholder returns what is around the first variable in s.
func cutPlaceholder(s string) (before, after string, found bool) {
	for _, pair := range [][2]string{{"$(", ")"}, {"${", "}"}, {"{{", "}}"}} {
		before, rest, opens := strings.Cut(s, pair[0])
		name, after, closes := strings.Cut(rest, pair[1])
		if opens && closes && strings.TrimSpace(name) != "" {
			return before, after, true
		}
	}
	return s, "", false
}

// parseDuration reads a duration as the environment, JSON and URLs write it: with a
// unit, but for 0, and for -1 where that means "none". A plain number could be
// seconds, as in a URL of go-redis, or the nanoseconds of encoding/json.
func parseDuration(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "-1" {
		return -1, nil
	}
	return time.ParseDuration(text)
}

// hintFor returns how a text that did not decode would be right, or "".
func hintFor(t reflect.Type, text string) string {
	text = strings.TrimSpace(text)
	if isQuoted(text) {
		return "the quotes around it are part of the value"
	}
	if t != reflect.TypeFor[time.Duration]() {
		return ""
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || n <= 0:
		return ""
	case n >= int64(time.Millisecond): // too long for a number of seconds
		return fmt.Sprintf("a number needs its unit: %q", time.Duration(n).String())
	default:
		return fmt.Sprintf("a number needs its unit: %q", text+"s")
	}
}
