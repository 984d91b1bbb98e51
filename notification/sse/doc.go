// Package sse streams events to browsers as Server-Sent Events, the format that
// their EventSource reads.
//
//	mux.Handle("GET /workflows/{id}/events", sse.Handler(system, func(r *http.Request) (string, error) {
//		id := r.PathValue("id")
//		if strings.ContainsAny(id, `*?[\`) {
//			return "", &sse.StatusError{Status: http.StatusBadRequest, Message: "no such workflow"}
//		}
//		return "workflow:" + id, nil
//	}))
//
// # Choosing the channel
//
// The function decides what a request may see: it is the place to check
// permissions. What it returns goes to Subscribe as it is, so *, ?, [ and \ make a
// glob of it. Text of the request must not become part of a pattern unchecked: an
// ID of "*" would be a subscription to the events of everybody. Nothing else of the
// request has an influence on the pattern.
//
// # What is sent
//
//	id: 1700000000000-0
//	event: message
//	data: {"event_id":"1700000000000-0","time":"...","id":"42","status":"running"}
//
// The id is Message.EventID; messages of other programs have none. The event is
// "message", which EventSource hands to onmessage, unless WithEventName names it.
// The data is the payload. A line break in a payload, be it CR, LF or both, arrives
// as LF. Each event is flushed. Besides events there are
//
//	event: gap            events may be missing before what follows, so reload the state
//	data: {"reason":"trimmed","after":"...","before":"...","missed":3}
//
//	event: close          the server ends the stream
//	data: {"reason":"closed"}
//
//	: heartbeat           a comment, sent in silence, which EventSource ignores
//
// The reason of a gap is a notification.GapReason; the other fields are those of
// notification.Gap and absent if unknown. A gap is sent in its place, before the
// first event behind it, or as soon as it is noticed if no event is waiting. In the
// latter case it may come once more with that event if more messages are missing by
// then. If more may be missing behind that event, as after a failover, the gap has no
// "before", and comes once more, with the same "after", in front of the first event
// that is certainly behind all that is missing. The reasons for a close are "closed" (the system or the subscription was closed),
// "slow" (PolicyDisconnect) and "failed" (for example Redis withdrew a permission; it
// is logged). EventSource connects again after a close, unless the page calls
// its close method.
//
// # Resuming
//
// EventSource sends the last id it received in the header Last-Event-ID when it
// connects again; a page that begins with an id it has stored passes it as the query
// parameter lastEventId. The header counts if there are both, and an empty one is
// none. The stream goes on behind that event: first from the journal, then live,
// without loss or duplicates of what this module publishes; or it says so with a
// gap, but for later events that a failover, or a restart with older data, lost
// while the client was away:
// [notification.RedisNotificationSystem.SubscribeFrom] knows nothing of these.
// Messages that others publish with plain PUBLISH are in no journal: those of the
// time without a stream are lost, and no gap says so. If the journal does not
// reach back, or is another one by now, the reason is "trimmed", as for an id
// that is no event ID; if history is off, or the system has no
// SubscribeFrom, it is "reconnected".
//
// A client that was cut off before its first event has no id to resume
// from. So that this is not silent either, a stream without a Last-Event-ID
// begins with the id "start" and no event. A client that comes back with it gets a
// gap with the reason "reconnected".
//
// # Ends
//
// The subscription lives as long as the request. It ends with the client, with the
// context of the request, when the system is closed (what is buffered is sent first,
// then the close event), or when a write takes longer than
// WithWriteTimeout. The handler starts no goroutine of its own.
// http.Server.Shutdown waits for streams and does not end them: close the system
// before, or cancel the server's BaseContext. A Server.WriteTimeout does
// not cut a stream, as each write has a deadline of its own.
//
// Several streams of one page share an HTTP/1 limit of six connections per host in
// most browsers; HTTP/2 has no such limit and works the same.
//
// # Status codes
//
//	200  the stream
//	405  the method is not GET
//	4xx, 5xx  as the *StatusError says that the function returned
//	500  any other error of the function, a pattern that is none, a refusal by Redis, a writer that
//	     cannot flush, arguments of Handler that cannot be used; the log says which
//	503  the system is closed, or the context ended first
//
// Responses carry the status text, or StatusError.Message; what was wrong inside
// goes to the log only. EventSource gives up for good on any status but 200.
package sse
