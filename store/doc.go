// Package store keeps typed values in Redis: versioned state that several processes change safely.
package store
