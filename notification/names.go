package notification

import (
	"strings"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification/internal/feed"
)

// names finds the values of all names that stand for a channel. Among thousands of globs, only those are compared that begin
// as the channel does.
type names[T any] struct {
	exact map[string]T
	globs map[string][]pattern[T] // by the text in front of the first special byte
	long  []bool                  // which lengths these texts have
}

// pattern is a glob, with what is quickly compared.
type pattern[T any] struct {
	text, end string // end is what every match ends with
	value     T
}

func (n *names[T]) add(name feed.Name, value T) {
	if !name.Glob {
		if n.exact == nil {
			n.exact = make(map[string]T)
		}
		n.exact[name.Text] = value
		return
	}
	begin, end := ends(name.Text)
	if n.globs == nil {
		n.globs = make(map[string][]pattern[T])
	}
	for len(n.long) <= len(begin) {
		n.long = append(n.long, false)
	}
	n.long[len(begin)] = true
	n.globs[begin] = append(n.globs[begin], pattern[T]{name.Text, end, value})
}

// match calls a function with each value.
func (n *names[T]) match(channel string, found func(T)) {
	if v, ok := n.exact[channel]; ok {
		found(v)
	}
	for length, used := range n.long {
		if length > len(channel) {
			return
		}
		if !used {
			continue
		}
		for _, p := range n.globs[channel[:length]] {
			if strings.HasSuffix(channel, p.end) && glob.Match(p.text, channel) {
				found(p.value)
			}
		}
	}
}

// ends returns what everything begins and ends with that a glob matches.
func ends(pattern string) (begin, end string) {
	first := strings.IndexAny(pattern, globBytes)
	if first < 0 {
		return pattern, ""
	}
	// What follows the last star is plain only if no class or backslash can reach into it.
	if last := strings.LastIndexAny(pattern, globBytes+"]"); pattern[last] == '*' && !strings.ContainsAny(pattern, `[\`) {
		end = pattern[last+1:]
	}
	return pattern[:first], end
}
