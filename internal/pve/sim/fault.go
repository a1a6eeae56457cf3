package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is something that goes wrong with an answer. The parts combine, as far as they can: a latency with anything, a
// status with a spoiled body. Of the parts that exclude each other the first in this order wins: Refuse, Hang,
// CutAnswer, CutBody, EndlessBody, WrongJSON.
type Fault struct {
	Latency     time.Duration // waits before it does anything
	Refuse      bool          // resets the connection; set for all methods and paths, before TLS begins
	Hang        bool          // reads the request and never answers
	CutAnswer   bool          // carries the request out and resets the connection in place of the answer
	CutBody     bool          // ends the connection in the middle of the body
	EndlessBody bool          // sends a body that does not end
	WrongJSON   bool          // sends a whole body that is half of its JSON
	Status      int           // answers with this status in place of its own; the request is not carried out
	Reason      string        // its reason phrase; "" for a usual one
	Skew        time.Duration // the host's clock is off by this much: its Date header, its tickets, its idea of their age
	Times       int           // for how many requests; 0 until cleared
}

func (f *Fault) spoilsBody() bool { return f.CutBody || f.EndlessBody || f.WrongJSON }

type activeFault struct {
	Fault
	method, prefix string
	left           int
}

// SetFault makes the host fail on requests with a method ("" for any) and a path that begins with pathPrefix ("" for
// any). The path is the API's own, such as /cluster/resources; one that begins with /api2 is compared with the whole. A
// second fault for the same method and prefix replaces the first; of several that match, the one set last decides.
func (h *Host) SetFault(method, pathPrefix string, f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = slices.DeleteFunc(h.faults, func(a *activeFault) bool { return a.method == method && a.prefix == pathPrefix })
	h.faults = slices.Insert(h.faults, 0, &activeFault{Fault: f, method: method, prefix: pathPrefix, left: f.Times})
}

// ClearFaults makes the host well again.
func (h *Host) ClearFaults() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
}

// takeFault finds the fault for a request and counts it.
func (h *Host) takeFault(r *request) Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, f := range h.faults {
		if f.method != "" && f.method != r.method || !f.matchesPath(r.path) {
			continue
		}
		h.countFault(i)
		return f.Fault
	}
	return Fault{}
}

func (h *Host) countFault(i int) {
	f := h.faults[i]
	if f.Times > 0 {
		if f.left--; f.left == 0 {
			h.faults = slices.Delete(h.faults, i, i+1)
		}
	}
}

func (f *activeFault) matchesPath(path string) bool {
	if strings.HasPrefix(f.prefix, "/api2") {
		return strings.HasPrefix(path, f.prefix)
	}
	if below, ok := apiPath(path); ok {
		if _, uri, ok := splitFormat(below); ok {
			return strings.HasPrefix(uri, f.prefix)
		}
	}
	return f.prefix == ""
}

// refusesConnections tells whether a fault ends connections before TLS begins.
func (h *Host) refusesConnections() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, f := range h.faults {
		if f.Refuse && f.method == "" && f.prefix == "" {
			h.countFault(i)
			return true
		}
	}
	return false
}

// response is the answer for a fault's status. Those of the node proxy (595 to 599) and refused credentials have no
// body.
func (f *Fault) response() response {
	r := response{status: f.Status, reason: f.Reason}
	if r.reason == "" {
		switch {
		case f.Status == 595:
			r.reason = "No route to host"
		case f.Status == 596:
			r.reason = "Connection timed out"
		case f.Status > 596:
			r.reason = "Broken pipe"
		default:
			r.reason = http.StatusText(f.Status)
		}
	}
	if f.Status >= 400 && f.Status < 595 && f.Status != http.StatusUnauthorized {
		r = formatted("json", nil, &reply{status: f.Status, reason: r.reason})
	}
	return r
}

// spoil sends an answer whose body is not what it should be.
func (s *connection) spoil(r response, f Fault, clock time.Time) {
	if len(r.body) < 2 {
		r.body, _ = json.Marshal(map[string]any{"data": strings.Repeat("x", 64)})
		r.contentType = "application/json;charset=UTF-8"
	}
	half := r.body[:len(r.body)/2]
	var b bytes.Buffer
	s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	switch {
	case f.CutBody:
		writeHead(&b, r, "HTTP/1.1", clock, false, "", int64(len(r.body)))
		b.Write(half)
		s.conn.Write(b.Bytes())
		s.raw.Close() // without a TLS goodbye
	case f.EndlessBody:
		writeHead(&b, r, "HTTP/1.1", clock, false, "", -1)
		b.WriteString(`{"data":["`)
		if _, err := s.conn.Write(b.Bytes()); err != nil {
			return
		}
		more := bytes.Repeat([]byte("x"), 64*1024)
		for {
			s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := s.conn.Write(more); err != nil {
				return
			}
		}
	default:
		writeHead(&b, r, "HTTP/1.1", clock, false, "", int64(len(half)))
		b.Write(half)
		s.conn.Write(b.Bytes())
		s.conn.Close()
	}
}

// ParseFault reads a fault from a command line: parts joined by commas, each a word or name=value.
//
//	method=POST            only requests with this method
//	path=/cluster/status   only paths that begin so
//	latency=2s             a Go duration
//	skew=-10m              a Go duration, may be negative
//	refuse, hang, cutanswer, cut, endless, wrongjson
//	status=595             100 to 999
//	reason=No route to host
//	times=3                for three requests, then no more
//
// The result is what SetFault takes.
func ParseFault(text string) (method, pathPrefix string, f Fault, err error) {
	fail := func(format string, a ...any) (string, string, Fault, error) {
		return "", "", Fault{}, fmt.Errorf("fault %q: %s", text, fmt.Sprintf(format, a...))
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, hasValue := strings.Cut(strings.TrimSpace(part), "=")
		flag := map[string]*bool{"refuse": &f.Refuse, "hang": &f.Hang, "cutanswer": &f.CutAnswer, "cut": &f.CutBody, "endless": &f.EndlessBody, "wrongjson": &f.WrongJSON}[name]
		if flag != nil {
			if hasValue {
				return fail("%s takes no value", name)
			}
			*flag = true
			continue
		}
		if value == "" {
			return fail("%q is neither a known word nor name=value", part)
		}
		var err error
		switch name {
		case "method":
			method = strings.ToUpper(value)
		case "path":
			if pathPrefix = value; !strings.HasPrefix(value, "/") {
				return fail("a path begins with /")
			}
		case "latency":
			if f.Latency, err = time.ParseDuration(value); err != nil || f.Latency < 0 {
				return fail("latency is a duration such as 2s")
			}
		case "skew":
			if f.Skew, err = time.ParseDuration(value); err != nil {
				return fail("skew is a duration such as -10m")
			}
		case "status":
			if f.Status, err = strconv.Atoi(value); err != nil || f.Status < 100 || f.Status > 999 {
				return fail("status is a number from 100 to 999")
			}
		case "reason":
			f.Reason = value
		case "times":
			if f.Times, err = strconv.Atoi(value); err != nil || f.Times < 1 {
				return fail("times is a whole number from 1")
			}
		default:
			return fail("unknown part %q", name)
		}
	}
	if f == (Fault{Times: f.Times, Reason: f.Reason}) {
		return fail("names nothing that goes wrong")
	}
	return method, pathPrefix, f, nil
}
