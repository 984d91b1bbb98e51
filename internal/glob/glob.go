// Package glob matches names against patterns as Redis does in PSUBSCRIBE and
// KEYS. It exists because path.Match differs: there "*" stops at a slash, "^"
// and ranges are stricter, and a malformed pattern is an error, while Redis
// gives every sequence of bytes a meaning.
package glob

// Match reports whether name matches pattern, bytewise:
//
//   - any bytes, also none
//     ?       one byte
//     [abc]   one of these; [^abc] none of these; [a-c], or [c-a], a range
//     \x      the byte x itself
//
// A class that is not closed ends with the pattern. No pattern matches the
// empty name except the empty one: Redis gives up on an empty name before it
// has looked at the pattern. Match takes at most len(pattern)*len(name) steps.
func Match(pattern, name string) bool {
	if name == "" {
		return pattern == ""
	}
	// After a mismatch only the last star can be made to take one byte more:
	// whatever an earlier star could take instead, the last one can take too.
	p, n := 0, 0
	star, taken := -1, 0 // position after the last star; where its match ends
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, taken = p, n
			continue
		}
		if p < len(pattern) {
			if width, ok := one(pattern[p:], name[n]); ok {
				p += width
				n++
				continue
			}
		}
		if star < 0 {
			return false
		}
		taken++
		p, n = star, taken
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// one matches c against the element at the start of pattern, which is not a
// star, and returns the length of that element.
func one(pattern string, c byte) (width int, ok bool) {
	switch pattern[0] {
	case '?':
		return 1, true
	case '[':
		return class(pattern, c)
	case '\\':
		// A backslash at the very end stands for itself.
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	}
	return 1, pattern[0] == c
}

// class matches c against the bracket expression at the start of pattern.
func class(pattern string, c byte) (width int, ok bool) {
	i := 1
	negated := i < len(pattern) && pattern[i] == '^'
	if negated {
		i++
	}
	found := false
	for i < len(pattern) && pattern[i] != ']' {
		rest := pattern[i:]
		switch {
		case rest[0] == '\\' && len(rest) >= 2:
			found = found || rest[1] == c
			i += 2
		case len(rest) >= 3 && rest[1] == '-':
			// Even a bracket ends a range: "[a-]" goes from "]" to "a" and on.
			// Redis compares C chars, which have a sign on most machines.
			from, to := int8(rest[0]), int8(rest[2])
			found = found || min(from, to) <= int8(c) && int8(c) <= max(from, to)
			i += 3
		default:
			found = found || rest[0] == c
			i++
		}
	}
	return min(i+1, len(pattern)), found != negated
}

// Complete reports whether every class of pattern is closed and every backslash
// has something to escape. Match gives the others a meaning too, as Redis does,
// but hardly the one that was intended.
func Complete(pattern string) bool {
	inClass := false
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			if i++; i == len(pattern) {
				return false
			}
		case '[':
			inClass = true
		case ']':
			inClass = false
		}
	}
	return !inClass
}
