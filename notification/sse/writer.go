package sse

import (
	"net/http"
	"time"
)

// writer sends frames to one client, each within the write timeout.
type writer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration // negative for none
}

// open sends the header, so that the client knows that it is connected.
func (w *writer) open() error {
	header := w.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Accel-Buffering", "no") // nginx would collect events
	return w.send(nil)
}

// send writes and flushes a frame.
func (w *writer) send(frame []byte) error {
	if err := w.within(); err != nil {
		return err
	}
	if len(frame) == 0 {
		w.w.WriteHeader(http.StatusOK)
	} else if _, err := w.w.Write(frame); err != nil {
		return err
	}
	if err := w.control.Flush(); err != nil {
		return err
	}
	// In HTTP/2 a deadline ends a stream even if nothing is being written. No deadline also lifts the server's own
	// WriteTimeout.
	return w.limit(time.Time{})
}

// within begins the time that what is written next may take.
func (w *writer) within() error { return w.limit(time.Now().Add(w.timeout)) }

func (w *writer) limit(deadline time.Time) error {
	if w.timeout < 0 {
		return nil
	}
	return w.control.SetWriteDeadline(deadline)
}
