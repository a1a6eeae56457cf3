package sim

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits of one request head (AnyEvent.pm).
const (
	maxHeaderLines = 64
	maxHeaderBytes = 8 * 1024
)

const (
	requestTimeout = 30 * time.Second // for a request to arrive whole, once begun
	writeTimeout   = 30 * time.Second
)

// serve answers the requests of one connection, one after the other.
func (h *Host) serve(raw net.Conn) {
	c := h.handshake(raw)
	if c == nil {
		return
	}
	s := &connection{host: h, raw: raw, conn: c, in: bufio.NewReader(c), parse: bufio.NewReaderSize(nil, 1024)}
	for n := 1; s.exchange(n < requestsPerConnection); n++ {
	}
}

// connection is what is kept of a TLS connection between its requests.
type connection struct {
	host  *Host
	raw   net.Conn
	conn  *tls.Conn
	in    *bufio.Reader
	parse *bufio.Reader // for request heads
	head  []byte
	out   bytes.Buffer
}

// exchange answers one request and reports whether another one may follow.
func (s *connection) exchange(mayFollow bool) bool {
	s.conn.SetReadDeadline(time.Now().Add(idleTimeout))
	if _, err := s.in.Peek(1); err != nil {
		return false
	}
	started := time.Now()
	s.conn.SetReadDeadline(started.Add(requestTimeout))
	r, keepAlive, gzipped, refusal := s.read()
	if r == nil {
		if refusal.status != 0 {
			s.write(refusal, "HTTP/1.1", s.host.dc.now(), false, false)
			s.drain()
		}
		return false
	}
	if s.host.member.stopped.Load() {
		reset(s.raw)
		return false
	}
	fault := s.host.takeFault(r)
	r.clock = s.host.dc.now().Add(fault.Skew)
	if !s.host.dc.hold(s.host.done, fault.Latency) {
		return false
	}
	switch {
	case fault.Refuse:
		s.host.record(r, 0, false)
		reset(s.raw)
		return false
	case fault.Hang:
		s.host.record(r, 0, false)
		s.raw.SetReadDeadline(time.Time{})
		io.Copy(io.Discard, s.conn) // until the client gives up or the host closes
		return false
	}
	answer := refusal
	if answer.status == 0 {
		if fault.Status != 0 {
			answer = fault.response()
		} else {
			answer = s.host.answer(r)
		}
	}
	if answer.slow && !s.host.dc.hold(s.host.done, s.host.dc.refusalDelay()-time.Since(started)) {
		return false
	}
	s.host.record(r, answer.status, answer.accepted)
	keepAlive = keepAlive && mayFollow && answer.status < 400
	if fault.CutAnswer {
		reset(s.raw)
		return false
	}
	if fault.spoilsBody() {
		s.spoil(answer, fault, r.clock)
		return false
	}
	if !s.write(answer, r.proto, r.clock, keepAlive, gzipped) {
		return false
	}
	if !keepAlive {
		if r.length > int64(len(r.body)) || refusal.status != 0 {
			s.drain()
		}
		s.conn.Close()
	}
	return keepAlive
}

// read reads one request with its body. A nil request with a refusal is one that could not be read as HTTP; a request
// with a refusal is one that the HTTP layer does not take.
func (s *connection) read() (r *request, keepAlive, gzipped bool, refusal response) {
	parsed, err := s.readHead()
	if err != nil {
		if errors.Is(err, errHead) {
			refusal = refused(http.StatusBadRequest, err.Error())
		}
		return nil, false, false, refusal
	}
	r = &request{
		method: parsed.Method, path: parsed.URL.Path, query: parsed.URL.RawQuery, header: parsed.Header,
		length: parsed.ContentLength, proto: "HTTP/1.1",
	}
	wish := strings.ToLower(parsed.Header.Get("Connection"))
	keepAlive = !strings.Contains(wish, "close")
	if parsed.ProtoMinor == 0 {
		r.proto = "HTTP/1.0"
		keepAlive = keepAlive && wish != ""
	}
	gzipped = strings.Contains(parsed.Header.Get("Accept-Encoding"), "gzip")
	switch r.method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		return r, keepAlive, gzipped, response{status: http.StatusNotImplemented, reason: "method '" + r.method + "' not available"}
	}
	if len(parsed.TransferEncoding) > 0 {
		return r, keepAlive, gzipped, refused(http.StatusNotImplemented, "chunked transfer encoding not supported")
	}
	if r.length > 0 && r.length <= maxBody {
		r.body = make([]byte, r.length)
		if _, err := io.ReadFull(s.in, r.body); err != nil {
			return nil, false, false, response{}
		}
	}
	return r, keepAlive, gzipped, response{}
}

var errHead = errors.New("bad request")

// readHead reads up to the empty line and no further.
func (s *connection) readHead() (*http.Request, error) {
	s.head = s.head[:0]
	for lines := 0; ; {
		line, err := s.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(s.head) == 0 && len(bytes.TrimRight(line, "\r\n")) == 0 {
			if lines++; lines > maxHeaderLines {
				return nil, errHead
			}
			continue // empty lines before a request are ignored
		}
		s.head = append(s.head, line...)
		if err != nil {
			if len(s.head) > maxHeaderBytes {
				return nil, errHead
			}
			continue
		}
		if lines++; lines > maxHeaderLines+1 || len(s.head) > maxHeaderBytes {
			return nil, errHead
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
	}
	s.parse.Reset(bytes.NewReader(s.head))
	r, err := http.ReadRequest(s.parse)
	if err != nil {
		return nil, errHead
	}
	return r, nil
}

// drain reads what the client is still sending, for a moment: closing with unread data would reset the connection, and
// the answer with it.
func (s *connection) drain() {
	s.conn.CloseWrite()
	s.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	io.CopyN(io.Discard, s.conn, 4*maxBody)
}

var gzipWriters = sync.Pool{New: func() any { w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed); return w }}

// write sends one answer whole (AnyEvent.pm, response).
func (s *connection) write(r response, proto string, clock time.Time, keepAlive, gzipped bool) bool {
	body := r.body
	encoding := ""
	if gzipped && len(body) > 1024 && r.contentType != "" {
		var packed bytes.Buffer
		w := gzipWriters.Get().(*gzip.Writer)
		w.Reset(&packed)
		w.Write(body)
		w.Close()
		gzipWriters.Put(w)
		body, encoding = packed.Bytes(), "gzip"
	}
	s.out.Reset()
	writeHead(&s.out, r, proto, clock, keepAlive, encoding, int64(len(body)))
	s.out.Write(body)
	s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := s.conn.Write(s.out.Bytes())
	if s.out.Cap() > 1<<20 { // a rare big answer should not be kept for the life of the connection
		s.out = bytes.Buffer{}
	}
	return err == nil
}

// writeHead writes status line and header fields. A negative length means that the body ends with the connection.
func writeHead(b *bytes.Buffer, r response, proto string, clock time.Time, keepAlive bool, encoding string, length int64) {
	field := func(name, value string) {
		b.WriteString(name)
		b.WriteString(": ")
		b.WriteString(value)
		b.WriteString("\r\n")
	}
	b.WriteString(proto)
	b.WriteByte(' ')
	b.WriteString(strconv.Itoa(r.status))
	b.WriteByte(' ')
	b.WriteString(reasonPhrase(r))
	b.WriteString("\r\n")
	date := clock.UTC().Format(http.TimeFormat)
	field("Cache-Control", "max-age=0")
	if keepAlive {
		field("Connection", "Keep-Alive")
	} else {
		field("Connection", "close")
	}
	field("Date", date)
	field("Pragma", "no-cache")
	field("Server", "pve-api-daemon/3.0")
	if length >= 0 {
		field("Content-Length", strconv.FormatInt(length, 10))
	}
	if encoding != "" {
		field("Content-Encoding", encoding)
	}
	if r.contentType != "" {
		field("Content-Type", r.contentType)
	}
	if r.location != "" {
		field("Location", r.location)
	}
	field("Expires", date)
	b.WriteString("\r\n")
}

// reasonPhrase is the first line of the reason, without control characters.
func reasonPhrase(r response) string {
	reason := r.reason
	if reason == "" {
		reason = http.StatusText(r.status)
	}
	reason, _, _ = strings.Cut(reason, "\n")
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, reason))
}

// redirectToHTTPS answers a client that speaks plain HTTP on the TLS port (AnyEvent.pm, ensure_tls_connection).
func redirectToHTTPS(c net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, maxHeaderBytes)))
	if err != nil || r.Host == "" {
		return
	}
	answer := response{
		status: http.StatusPermanentRedirect, contentType: "text/plain",
		location: "https://" + r.Host + r.URL.RequestURI(), body: []byte("this port speaks HTTPS\n"),
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		answer.status = http.StatusMovedPermanently
	}
	length := int64(len(answer.body))
	if r.Method == http.MethodHead {
		answer.body = nil
	}
	var b bytes.Buffer
	writeHead(&b, answer, "HTTP/1.1", time.Now(), false, "", length)
	b.Write(answer.body)
	c.Write(b.Bytes())
}
