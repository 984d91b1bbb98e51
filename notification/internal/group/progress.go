package group

import (
	"encoding/json"
	"fmt"

	"github.com/compozy/cache/notification/internal/journal"
)

// progress is how far a group has read the journal, and which journal that was.
type progress struct {
	epoch    string
	cursor   journal.Envelope // the last entry read, with its ID, position and stamp, or where the next one begins, without a time
	identity journal.Identity // the server that it was read from
	anything bool             // the group is to begin where the journal does: nothing is missing before that
	wiped    bool             // what the group held may be lost, and nobody has reported that
	formers  int64            // how many lost groups of its name were reported
	lost     int64            // how many events that Redis has evicted were reported
}

// stored is how a progress is written. Names are never given another meaning, as programs of several versions may be members.
type stored struct {
	Epoch    string           `json:"epoch"`
	At       string           `json:"at"`
	Stamp    string           `json:"stamp,omitempty"`
	Anything bool             `json:"anything,omitempty"`
	Wiped    bool             `json:"wiped,omitempty"`
	Formers  int64            `json:"formers,omitempty"`
	Lost     int64            `json:"lost,omitempty"`
	Server   journal.Identity `json:"server"`
}

// String returns the progress as it is stored.
func (p *progress) String() string {
	text, _ := json.Marshal(stored{ //nolint:errchkjson // strings and booleans
		Epoch: p.epoch, At: p.cursor.Pos.String(), Stamp: p.cursor.Stamp, Anything: p.anything, Wiped: p.wiped,
		Formers: p.formers, Lost: p.lost, Server: p.identity,
	})
	return string(text)
}

func parseProgress(text string) (progress, error) {
	var s stored
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return progress{}, fmt.Errorf("%w: the progress of a group: %w", journal.ErrProtocol, err)
	}
	pos, ok := journal.ParsePosition(s.At)
	if !ok {
		return progress{}, fmt.Errorf("%w: the progress of a group is %q", journal.ErrProtocol, s.At)
	}
	cursor := journal.Envelope{ID: s.At, Pos: pos, Stamp: s.Stamp}
	if pos.Ms == 0 {
		cursor.ID = "" // no event has it
	}
	return progress{
		epoch: s.Epoch, cursor: cursor, anything: s.Anything, wiped: s.Wiped,
		formers: s.Formers, lost: s.Lost, identity: s.Server,
	}, nil
}

// wipedSince returns the progress of a group that is made again, after members have found it gone, from what they know of
// it. The gap is a part of it, so that a lost reply to the script that joins, or the end of a leader, does not lose the gap.
func wipedSince(known string) (string, error) {
	at, err := parseProgress(known)
	if err != nil {
		return "", err
	}
	at.wiped, at.formers, at.lost = true, 0, 0 // a new group counts from 0
	return at.String(), nil
}
