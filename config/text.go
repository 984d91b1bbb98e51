package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
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

// trim returns s without the byte order mark that an editor puts at its start and the
// line break that a mounted secret, a file or echo leaves at its end, and addresses
// without blanks around them. A text of nothing else stays as it is, to be refused: it
// is not the same as none.
func trim(f field, s string) string {
	t := trimLineBreak(strings.TrimPrefix(s, "\ufeff"))
	if f.url || f.addr {
		t = trimBlanks(s)
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

// trimBlanks removes all that is not seen around s.
func trimBlanks(s string) string { return strings.TrimFunc(s, isBlank) }

// isBlank reports whether r is a blank, a tab, a line break, or has no width at all, as
// the byte order mark and what is copied along with a text from a web page.
func isBlank(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

// fault returns what a text has that it must not have, or "". It finds what is wrong in
// any field, and would otherwise show as a wrong password or an unknown host.
func fault(f field, s string) string {
	switch {
	case strings.ContainsAny(s, "\r\n"):
		return "a line break in it"
	case f.secret && hasControl(s):
		return "a control character in it; a password that has one is given by Credentials"
	case isQuoted(s):
		return "quotes around it"
	case f.secret && isPlaceholder(s), !f.secret && !f.url && hasPlaceholder(s):
		return "variables in it that are not filled in"
	case s == trimBlanks(s), f.name == "KeyPrefix": // keys may have blanks in them
		return ""
	case f.name == "Password":
		return "a blank, tab or invisible character at its start or end; " +
			"a password that has one is given percent-encoded in a URL, or by Credentials"
	default:
		return "a blank, tab or invisible character at its start or end"
	}
}

// hasControl reports whether a password has a control character in it, which no field and no
// URL takes. A tab is a blank, which only a URL can begin or end a password with.
func hasControl(password string) bool {
	return strings.ContainsFunc(password, func(r rune) bool { return unicode.IsControl(r) && r != '\t' })
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
	text = trimBlanks(text)
	if text == "-1" {
		return -1, nil
	}
	return time.ParseDuration(text)
}

// parseNumber reads a whole number as the environment, JSON and URLs write it: in plain
// digits. Zeros before them mean another base to some, and nothing to others.
func parseNumber(text string) (int, error) {
	text = trimBlanks(text)
	n, err := strconv.Atoi(text)
	if err == nil && text != strconv.Itoa(n) {
		err = strconv.ErrSyntax
	}
	return n, err
}

// hintFor returns how a text that did not decode would be right, or "".
func hintFor(f field, text string) string {
	text = trimBlanks(text)
	number, err := strconv.ParseFloat(text, 64)
	switch {
	case isQuoted(text):
		return "the quotes around it are part of the value"
	case f.typ().Kind() == reflect.Slice && strings.Trim(text, ", ") == "" && text != "":
		return "there is none in it"
	case f.isDuration() && err == nil:
		return hintForNumber(number)
	case f.isDuration():
		plain := strings.ToLower(strings.Join(strings.Fields(text), ""))
		if d, err := time.ParseDuration(plain); err == nil && d > 0 {
			return fmt.Sprintf("written %q", plain)
		}
	case f.typ().Kind() == reflect.Int && err == nil && number == math.Trunc(number) && math.Abs(number) < 1<<53:
		return fmt.Sprintf("written %d", int64(number))
	}
	return ""
}

// hintForNumber returns what a number was probably meant for as a duration, or "".
func hintForNumber(n float64) string {
	switch {
	case n >= float64(time.Millisecond) && n < math.MaxInt64: // too long for seconds
		return fmt.Sprintf("a number needs its unit: %q", time.Duration(n))
	case n > 0 && n < float64(time.Millisecond):
		return fmt.Sprintf("a number needs its unit: %q", strconv.FormatFloat(n, 'f', -1, 64)+"s")
	default:
		return ""
	}
}
