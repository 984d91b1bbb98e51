package sse

import (
	"errors"
	"net/http"
	"strconv"
)

// StatusError is what the function given to Handler returns to refuse a request: it chooses the response.
type StatusError struct {
	// Status is the code of the response, 400 to 599. Any other number gives 500.
	Status int
	// Message is the body of the response, for everybody to read. Empty means the text of the status.
	Message string
	// Err is the underlying error, or nil. It is never sent, and logged if the status is 500 or more.
	Err error
}

// Error names the status and what is behind it.
func (e *StatusError) Error() string {
	text := "sse: refused with status " + strconv.Itoa(e.Status)
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the underlying error, or nil.
func (e *StatusError) Unwrap() error { return e.Err }

// response returns what a client gets to see of an error.
func response(err error) (status int, message string) {
	status = http.StatusInternalServerError
	var refusal *StatusError
	if errors.As(err, &refusal) && refusal != nil {
		if refusal.Status >= 400 && refusal.Status <= 599 {
			status = refusal.Status
		}
		message = refusal.Message
	}
	if message == "" {
		message = http.StatusText(status)
	}
	return status, message
}
