package web

import (
	"encoding/json"
	"net/http"
	"time"

	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/session"
)

const (
	// sessionCheck is how often a stream looks whether its session still holds. A session that ended is noticed within
	// twice this, busy machines included.
	sessionCheck = 500 * time.Millisecond
	// aliveEvery is how often a stream without events says that it lives, sooner than proxies give up.
	aliveEvery = 15 * time.Second
	// eventTime is how long a client may take to receive one event.
	eventTime = 10 * time.Second
)

// EventsQuery is what a client asks an event stream for.
type EventsQuery struct {
	// Version is for the first connection: a page has it from the list that it shows. Later ones send Last-Event-ID.
	Version string `json:"version,omitempty" doc:"the version that the client has, of a list or an event; the header Last-Event-ID outranks it"`
}

// Validate reports every field that can't be right.
func (q EventsQuery) Validate() error {
	if len(q.Version) > maxVersion {
		return fault.InvalidInput(map[string]string{"version": "Version must be that of a list or an event"})
	}
	return nil
}

// EventsRoute is the route of the event stream, without a description. It does not count as use of the session: a page
// reports that by itself.
func (s *Site) EventsRoute() Route {
	var route Route
	route = AuthenticatedRoute("GET", "/api/events", API, func(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
		return s.events(w, r, caller, func() error {
			_, err := s.caller(r, route)
			return err
		})
	}).WithScope(session.ScopeRead)
	route.Passive = true
	return route
}

// eventStreamType is the media type of an event stream.
const eventStreamType = "text/event-stream"

// maxVersion bounds a version that a client sends.
const maxVersion = 100

// EndStreams ends all event streams, for the end of the program: a server that shuts down waits for its requests.
func (s *Site) EndStreams() { s.endStreams() }

// events streams what changes in what the caller sees, until the client goes, stillValid tells that the caller may not go
// on, or the program ends. What the events are called and mean is part of the API.
func (s *Site) events(w http.ResponseWriter, r *http.Request, caller session.Caller, stillValid func() error) error {
	query, err := DecodeForm[EventsQuery](r)
	if err != nil {
		return err
	}
	watch, err := s.o.Containers.Watch(r.Context(), caller)
	if err != nil {
		return err
	}
	defer watch.Close()
	w.Header().Set("Content-Type", eventStreamType)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would gather events
	if r.Method == http.MethodHead {
		return nil
	}
	out := eventStream{w: w, control: http.NewResponseController(w)}
	// The limit for reading a request would end the stream.
	_ = out.control.SetReadDeadline(time.Time{}) // without deadlines there is none

	has := query.Version
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		has = id
	}
	if version := watch.Version(); has != "" && has != version {
		err = out.send("reset", version, struct {
			Version string `json:"version"`
		}{version})
	} else {
		err = out.begin(version)
	}
	s.streaming(w, r)
	sessions, alive := time.NewTicker(sessionCheck), time.NewTicker(aliveEvery)
	defer sessions.Stop()
	defer alive.Stop()
	for err == nil {
		select {
		case <-watch.Changed():
			err = out.change(watch.Change())
		case <-alive.C:
			err = out.alive()
		case <-sessions.C:
			if gone := stillValid(); gone != nil {
				// A store that does not answer says nothing of the session: the client comes back and asks again.
				if fault.KindOf(gone) != fault.Unavailable {
					_ = out.send("end", "", struct{}{}) // it is the last thing to say
				}
				return nil
			}
		case <-s.streams.Done():
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
	return nil // the client has gone
}

// eventStream writes server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// begin tells the client the version that it is at, without an event.
func (e *eventStream) begin(version string) error {
	return e.write([]byte("id: " + version + "\n: watching\n\n"))
}

// alive is a comment.
func (e *eventStream) alive() error { return e.write([]byte(": alive\n\n")) }

// change sends the events of a change; nil is none.
func (e *eventStream) change(c *container.Change) error {
	if c == nil {
		return nil
	}
	if c.ListChanged() {
		data, err := c.JSON()
		if err != nil {
			return err
		}
		if err := e.event("containers", c.Version, data); err != nil {
			return err
		}
	}
	if c.Tasks != nil {
		return e.send("tasks", c.Version, c.Tasks)
	}
	return nil
}

func (e *eventStream) send(name, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return e.event(name, id, data)
}

// event sends one event. JSON has no line ends, which would end its data.
func (e *eventStream) event(name, id string, data []byte) error {
	head := "event: " + name + "\n"
	if id != "" {
		head += "id: " + id + "\n"
	}
	return e.write([]byte(head+"data: "), data, []byte("\n\n")) // the data are the same for all who watch
}

// write sends texts at once. There is a deadline for them, since the client may stay away for ever, and none in between, when
// nothing is sent.
func (e *eventStream) write(texts ...[]byte) error {
	_ = e.control.SetWriteDeadline(time.Now().Add(eventTime)) // without deadlines the server's own remains
	for _, text := range texts {
		if _, err := e.w.Write(text); err != nil {
			return err
		}
	}
	if err := e.control.Flush(); err != nil {
		return err
	}
	return e.control.SetWriteDeadline(time.Time{})
}
