package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/klauspost/compress/s2"

	"github.com/compozy/cache/store/internal/entry"
)

// Codec turns values into bytes and back. It must be safe for concurrent use.
type Codec interface {
	// Letter names the encoding in what is stored, so that values are not read by another codec than that which wrote
	// them. It is a letter or a digit; JSON is 'j'.
	Letter() byte
	// Marshal encodes a value. What it returns is copied, so it may be v itself, or be used again.
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes data into what v points to. It must neither change data nor keep it. Something else may have written
	// data: a length in it must not decide how much memory is taken.
	Unmarshal(data []byte, v any) error
}

// JSON is the default codec: encoding/json. Numbers in values of type any become [json.Number], so that large integers
// stay exact.
type JSON struct{}

// Letter implements Codec.
func (JSON) Letter() byte { return 'j' }

// Marshal implements Codec.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal implements Codec.
func (JSON) Unmarshal(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}

var _ Codec = JSON{}

// compressed is the letter of S2.
const compressed byte = 's'

// coder encodes and decodes as the options say.
type coder struct {
	codec    Codec
	compress int // from how many bytes on, 0 for never
	maxSize  int
	typed    bool // values are of a type where JSON has no interface to fill, see typedJSON
}

// forType returns a coder for values of a type.
func (c coder) forType(t reflect.Type) coder {
	_, own := c.codec.(JSON)
	c.typed = own && typedJSON(t, make(map[reflect.Type]bool))
	return c
}

// typedJSON reports whether json.Unmarshal does for a type what the Decoder of [JSON] does, which costs twice as much: no
// value in it is an interface, where numbers would become float64. Types that decode themselves do so either way. seen are the
// types that were looked at, of which none has an interface so far.
func typedJSON(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return true
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return false
	case reflect.Array, reflect.Map, reflect.Pointer, reflect.Slice:
		return typedJSON(t.Elem(), seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if !typedJSON(f.Type, seen) {
				return false
			}
		}
	default:
	}
	return true
}

// encoded is a value as it is stored.
type encoded struct {
	payload            []byte
	codec, compression byte
}

// encode encodes a value. The error matches ErrTooLarge or ErrCodec.
func (c coder) encode(v any) (encoded, error) {
	data, err := c.codec.Marshal(v)
	if err != nil {
		return encoded{}, codecError{"cannot be encoded", err}
	}
	if len(data) > c.maxSize {
		return encoded{}, fmt.Errorf("%w: %d bytes, more than the %d of WithMaxSize", ErrTooLarge, len(data), c.maxSize)
	}
	letter := c.codec.Letter()
	if c.compress > 0 && len(data) >= c.compress {
		if small := s2.Encode(nil, data); len(small) < len(data) {
			return encoded{small, letter, compressed}, nil
		}
	}
	if _, own := c.codec.(JSON); !own { // it may be sent after the call has returned
		data = slices.Clone(data)
	}
	return encoded{data, letter, entry.Plain}, nil
}

// plainSize returns how many bytes the payload of an entry has when it is not compressed.
func plainSize(e *entry.Entry) int {
	if e.Compression == compressed {
		if n, err := s2.DecodedLen(e.Payload); err == nil {
			return n
		}
	}
	return len(e.Payload)
}

// decode decodes the payload of an entry. The error matches ErrTooLarge or ErrCodec.
func (c coder) decode(e *entry.Entry, into any) error {
	if e.Codec != c.codec.Letter() {
		return codecError{fmt.Sprintf("is of codec %q, not %q", e.Codec, c.codec.Letter()), nil}
	}
	data := e.Payload
	size := len(data)
	switch e.Compression {
	case entry.Plain:
	case compressed:
		var err error
		if size, err = s2.DecodedLen(data); err != nil {
			return codecError{"cannot be decompressed", err}
		}
	default:
		return codecError{fmt.Sprintf("is of compression %q", e.Compression), nil}
	}
	if size > c.maxSize { // before there is memory for it
		return fmt.Errorf("%w: %d bytes are stored, more than the %d of WithMaxSize", ErrTooLarge, size, c.maxSize)
	}
	if e.Compression == compressed {
		var err error
		if data, err = s2.Decode(nil, data); err != nil {
			return codecError{"cannot be decompressed", err}
		}
	}
	unmarshal := c.codec.Unmarshal
	if c.typed {
		unmarshal = json.Unmarshal
	}
	if err := unmarshal(data, into); err != nil {
		return codecError{"cannot be decoded", err}
	}
	return nil
}

// codecError matches ErrCodec and the error behind it, whose text it shows only where that quotes no value.
type codecError struct {
	reason string
	err    error
}

func (e codecError) Error() string {
	text := ErrCodec.Error() + ": " + e.reason
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case e.err == nil:
	case errors.As(e.err, &mismatch):
		what, _, _ := strings.Cut(mismatch.Value, " ") // without the number
		text += fmt.Sprintf(": a JSON %s cannot become a %v", what, mismatch.Type)
		if mismatch.Field != "" {
			text += " in " + mismatch.Field
		}
	case errors.As(e.err, &syntax):
		text += fmt.Sprintf(": a JSON syntax error after %d bytes", syntax.Offset)
	case errors.Is(e.err, s2.ErrCorrupt), errors.Is(e.err, entry.ErrForeign):
		text += ": " + e.err.Error()
	default:
		text += fmt.Sprintf(": a %T", e.err)
	}
	return text
}

func (e codecError) Is(target error) bool { return target == ErrCodec }

// Unwrap returns the error behind it, unless that would make it look like another one than it is: an Unmarshal that returns
// ErrNotFound has found something.
func (e codecError) Unwrap() error {
	if meansSomething(e.err) {
		return nil
	}
	return e.err
}
