// Package browser has tests only: they look at the page of examples/app in a real Chromium. It is a module of its own, so
// that nobody else depends on what drives the browser.
package browser
