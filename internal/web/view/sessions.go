package view

import (
	"net/url"
	"strconv"
	"time"
)

// Session is one signed-in browser or program.
type Session struct {
	ID, UserID, Host  string // Host is the login host that vouched, for people
	Device, UserAgent string
	Address           string // empty when unknown
	Current, Mine     bool
	Created, LastSeen time.Time
	LastFrom          string // the address that it was used from last; empty when unknown
	Expires           time.Time
}

// elsewhere tells that the session was used last from another address than it was started from: the owner on the move, or
// somebody with a stolen cookie.
func (s Session) elsewhere() bool { return s.LastFrom != "" && s.LastFrom != s.Address }

// Sessions is the page /settings/sessions.
type Sessions struct {
	Shell
	Query string
	Rows  []Session
	// Everyone tells that everyone's sessions are shown, MayAll that this may be asked for.
	Everyone, MayAll bool
	More             bool
	Now              time.Time
	Done             string // what was just done, in a sentence
}

// EndSession asks before one session is ended.
type EndSession struct {
	Shell
	Session Session
	Now     time.Time
}

// EndOthers asks before all sessions but this one are ended.
type EndOthers struct {
	Shell
	Rows           []Session
	Everyone, More bool
	Now            time.Time
}

func (p Sessions) others() bool {
	for _, row := range p.Rows {
		if !row.Current {
			return true
		}
	}
	return p.More
}

func (p Sessions) path(everyone bool) string {
	path := p.Link("/settings/sessions")
	if everyone {
		path += "?" + url.Values{"whose": {"everyone"}}.Encode()
	}
	return path
}

func (p Sessions) othersPath() string {
	path := p.Link("/settings/sessions/end-others")
	if p.Everyone {
		path += "?whose=everyone"
	}
	return path
}

// heading asks what is about to happen, with its number.
func (p EndOthers) heading() string {
	n := strconv.Itoa(len(p.Rows))
	switch {
	case p.More:
		return "End all other sessions of everyone?"
	case len(p.Rows) == 0:
		return "No other session"
	case len(p.Rows) == 1:
		return "End 1 other session?"
	case p.Everyone:
		return "End " + n + " sessions of everyone?"
	}
	return "End " + n + " other sessions?"
}

// FormatMoment writes a time for people, in UTC.
func FormatMoment(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04:05") }

// machineTime is a time as the attribute datetime takes it.
func machineTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
