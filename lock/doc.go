// Package lock locks resources across processes by means of Redis: with fencing tokens, automatic renewal, and a notice
// to the holder before a lock can expire.
package lock
