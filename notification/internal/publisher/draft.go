package publisher

import (
	"bytes"
	"encoding/json"
	"sync"

	"github.com/compozy/cache/internal/arguments"
)

// draft is the JSON of a value.
type draft struct {
	object  []byte
	encoder *json.Encoder // writes into the draft
}

// drafts writes JSON into memory that is used again: json.Marshal would return a copy, only for us to copy it once
// more behind the fields of ours.
type drafts struct{ pool sync.Pool }

// maxDraft is how much memory a draft may keep, so that one large event does not cost memory for ever.
const maxDraft = 64 << 10

// of returns a draft of v, which must be a JSON object; argument is its name in an error. The draft is to be released, and not
// used after that.
func (all *drafts) of(v any, argument string) (*draft, error) {
	d, ok := all.pool.Get().(*draft)
	if !ok {
		d = new(draft)
		d.encoder = json.NewEncoder(d)
	}
	d.object = d.object[:0]
	if err := d.encoder.Encode(v); err != nil {
		all.release(d)
		return nil, &arguments.Error{Argument: argument, Reason: "does not marshal to JSON", Err: err}
	}
	d.object = d.object[:len(d.object)-len("\n")] // what Encode adds to the bytes of Marshal
	if len(d.object) < len("{}") || d.object[0] != '{' {
		kind := kindOf(d.object)
		all.release(d)
		return nil, &arguments.Error{Argument: "v", Reason: "is no JSON object but " + kind}
	}
	return d, nil
}

func (all *drafts) release(d *draft) {
	if cap(d.object) <= maxDraft {
		all.pool.Put(d)
	}
}

// Write is for the encoder.
func (d *draft) Write(p []byte) (int, error) {
	d.object = append(d.object, p...)
	return len(p), nil
}

// takenField returns which of the fields that are added to every event a JSON object has, or "".
func takenField(object []byte) string {
	contains := func(name string) bool { return bytes.Contains(object, []byte(name)) }
	// The names may also be those of fields further inside, or be written with escapes. Most objects have nothing like it.
	if !contains(`"event_id"`) && !contains(`"time"`) && !contains(`\u`) {
		return ""
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(object, &fields) // the object was marshalled, so it is one
	for _, name := range []string{"event_id", "time"} {
		if _, taken := fields[name]; taken {
			return name
		}
	}
	return ""
}

func kindOf(data []byte) string {
	switch data[0] {
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	default:
		return "a number"
	}
}
