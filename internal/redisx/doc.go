// Package redisx holds what every package of this module needs of go-redis
// beyond go-redis itself.
package redisx
