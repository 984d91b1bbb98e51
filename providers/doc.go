// Package providers holds the Fx constructors of the cache module: they wire
// what the packages config, client, lock and notification offer, and contain no
// behaviour of their own. Applications use it through package cache.
//
// Every constructor takes and returns plain values, and [Module] puts the
// name tags on: the same constructors serve the one unnamed instance and
// any number of named ones.
package providers
