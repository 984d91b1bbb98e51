package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

var (
	_ json.Marshaler   = Config{}
	_ json.Unmarshaler = (*Config)(nil)
)

// MarshalJSON writes every field, durations as text such as "5s". Secrets are
// written as REDACTED: the result is for people and logs, not for storing a Config.
func (c Config) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	v := reflect.ValueOf(c)
	b.WriteByte('{')
	for _, f := range fields() {
		if f.json == "" {
			continue
		}
		value := any(nil)
		if fv := v.Field(f.index); fv.Kind() != reflect.Pointer || !fv.IsNil() {
			value = showField(f, fv)
		}
		if d, ok := value.(time.Duration); ok {
			value = d.String()
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("config: encode %s: %w", f.name, err)
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(f.json))
		b.WriteByte(':')
		b.Write(text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON sets the fields that data names and leaves the others alone.
// Durations are text such as "5s"; of plain numbers only 0 and -1 are accepted, as in
// the environment. A port may be text or a number. Unknown names and null are ignored.
// All fields of the wrong type are reported at once, as an [*Error]; c is then
// unchanged. The values themselves are judged by [Config.Validate].
func (c *Config) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		// Neither kind of error that is possible here quotes a value.
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	out := *c
	v := reflect.ValueOf(&out).Elem()
	bad := &Error{}
	for _, f := range fields() {
		text, ok := lookup(raw, f.json)
		if !ok || string(text) == "null" {
			continue
		}
		fresh := reflect.New(v.Field(f.index).Type())
		if err := decodeJSON(f, text, fresh); err != nil {
			bad.Fields = append(bad.Fields, FieldError{
				Field: f.name, Variable: f.env, Value: showJSON(f, text), Allowed: f.allowed(), Hint: hintJSON(f, text),
			})
			continue
		}
		v.Field(f.index).Set(fresh.Elem())
	}
	if len(bad.Fields) > 0 {
		return bad
	}
	*c = out
	return nil
}

// decodeJSON decodes text into the value of f that target points to.
func decodeJSON(f field, text json.RawMessage, target reflect.Value) error {
	if d, ok := reflect.TypeAssert[*time.Duration](target); ok {
		var err error
		*d, err = parseDuration(unquoted(text))
		return err
	}
	if port, ok := reflect.TypeAssert[*string](target); ok && f.name == "Port" && isPort(string(text)) {
		*port = string(text) // a number that can only mean a port
		return nil
	}
	return json.Unmarshal(text, target.Interface())
}

// showJSON returns what an error says of a JSON value that did not decode: the value
// if the field takes its kind, and else the kind alone, as it may hold anything.
func showJSON(f field, text json.RawMessage) string {
	switch kind := text[0]; {
	case kind == '{':
		return "an object"
	case kind == '[':
		return "a list"
	case kind == 't', kind == 'f':
		return string(text)
	case kind == '"' && !f.isDuration():
		return "text"
	case kind != '"' && !f.isDuration() && f.typ().Kind() != reflect.Int && f.name != "Port":
		return "a number"
	default:
		return showText(f, unquoted(text))
	}
}

// hintJSON returns how a JSON value that did not decode would be right, or "". It says
// nothing of a text where none belongs.
func hintJSON(f field, text json.RawMessage) string {
	content := unquoted(text)
	if text[0] == '"' && !f.isDuration() && !isQuoted(content) {
		if decodeJSON(f, json.RawMessage(content), reflect.New(f.typ())) != nil {
			return ""
		}
		return "without the quotes around it"
	}
	return hintFor(f, content)
}

// unquoted returns the content of a JSON text, and everything else as it is.
func unquoted(text json.RawMessage) string {
	var s string
	if json.Unmarshal(text, &s) != nil {
		return string(text)
	}
	return s
}

// lookup finds a field the way encoding/json does: by its exact name, or else
// without regard to case.
func lookup(raw map[string]json.RawMessage, name string) (json.RawMessage, bool) {
	if name == "" {
		return nil, false
	}
	if text, ok := raw[name]; ok {
		return text, true
	}
	for key, text := range raw {
		if strings.EqualFold(key, name) {
			return text, true
		}
	}
	return nil, false
}
