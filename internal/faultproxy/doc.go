// Package faultproxy is a TCP proxy that behaves like a bad network: it delays,
// holds up, cuts, refuses and loses what passes through it.
//
//	server := redistest.Start(t)
//	proxy := faultproxy.New(t, server.Addr())
//	client := redis.NewClient(&redis.Options{Addr: proxy.Addr()})
//
//	proxy.SetLatency(10 * time.Millisecond) // a 20 ms link
//	proxy.SwallowToClient(true)             // half-open: replies get lost
//	proxy.SwallowToClient(false)
//	proxy.Cut()                             // all connections break
//
// Latency delays bytes without holding up those behind them, as a long cable
// does: ten commands sent one after the other without waiting for replies come
// back after one round trip, not after ten. Making a connection is not delayed.
//
// All methods of a [Proxy] may be called concurrently.
package faultproxy
