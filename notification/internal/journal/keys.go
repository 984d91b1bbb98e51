package journal

import (
	"hash/fnv"
	"strconv"
	"strings"
)

// DefaultKeyPrefix is what keys begin with if nothing else is set. Events of its journal do not name it.
const DefaultKeyPrefix = "cache:"

const (
	// hashTag keeps all keys on one node of a cluster, so that one script may use them together.
	hashTag = "{notification}:"
	// heartbeats is in the name of each channel that a system sends its heartbeats through.
	heartbeats = hashTag + "heartbeat:"
	// lockInboxes is in the name of each channel that lock managers wake each other through. What they say contains the
	// values of locks, which are nobody else's business.
	lockInboxes = "lock:inbox:"
	// probe is the channel, behind the key prefix, that a client publishes empty messages to, to learn whether it may.
	probe = "probe"
)

// Keys are the names that a notification system uses in Redis besides the channels of its users.
type Keys struct {
	Base      string // what the keys of this journal begin with; other keys beside them must not be one of these
	Journal   string // stream of the events
	State     string // hash with what outlives the stream: its epoch and its offset
	Lanes     string // prefix of the lanes of publishers
	Heartbeat string // prefix of the channels of heartbeats, one per system
	Tag       string // names the journal in payloads, empty for the default one; it needs no JSON escapes

	inboxes string // prefix of the channels of lock managers
	probe   string // channel of the client's probes
}

// NewKeys returns the names for a key prefix, a channel prefix (empty for none) and the number of a database. Each
// combination has a journal of its own. Channels are shared by all databases, and heartbeats by all channel prefixes.
func NewKeys(keyPrefix, channelPrefix string, database int) Keys {
	base := keyPrefix + hashTag
	if channelPrefix != "" {
		base += channelPrefix + ":"
	}
	k := Keys{
		Base: base, Journal: base + "journal", State: base + "state", Lanes: base + "lane:",
		Heartbeat: keyPrefix + heartbeats, inboxes: keyPrefix + lockInboxes, probe: keyPrefix + probe,
	}
	// Hashes instead of the prefixes themselves: they need no escapes, whatever the prefixes contain.
	if keyPrefix != DefaultKeyPrefix {
		k.Tag = short(keyPrefix)
	}
	if channelPrefix != "" {
		k.Tag += "-" + short(channelPrefix)
	}
	if database != 0 {
		k.Tag += "." + strconv.Itoa(database)
	}
	return k
}

func short(text string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return strconv.FormatUint(h.Sum64(), 36)
}

// Reserved reports whether only this module may use a channel: nothing may be published to it, and what arrives there is
// not delivered.
func (k *Keys) Reserved(channel string) bool {
	return strings.Contains(channel, heartbeats) || strings.HasPrefix(channel, k.inboxes)
}

// Internal reports whether a message is for this module alone. Of the inboxes with another key prefix, only what names
// the inbox itself behind a blank, as lock managers write it, is taken for theirs: the channel may be somebody else's.
func (k *Keys) Internal(channel, payload string) bool {
	return k.Reserved(channel) || channel == k.probe && payload == "" ||
		strings.Contains(channel, lockInboxes) && strings.Contains(payload, " "+channel+":")
}
