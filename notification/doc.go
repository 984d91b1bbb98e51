// Package notification publishes events and subscribes to them through Redis, for many subscribers over one
// connection.
package notification
