package pve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestErrors has refusals of each kind as PVE words them.
func TestErrors(t *testing.T) {
	body := func(message, errs string) string {
		text, _ := json.Marshal(message + "\n")
		if errs != "" {
			errs = `,"errors":` + errs
		}
		return `{"data":null,"message":` + string(text) + errs + `}`
	}
	for _, c := range []struct {
		answer  string
		kind    Kind
		message string
	}{
		{reply("401 No ticket", ""), KindUnauthenticated, "No ticket"},
		{reply("401 authentication failure", body("authentication failure", "")), KindUnauthenticated, "authentication failure"},
		{reply("401 Permission denied - invalid csrf token", ""), KindUnauthenticated, "Permission denied - invalid csrf token"},
		{reply("403 Permission check failed (/vms/102, VM.PowerMgmt)", `{"data":null}`), KindForbidden, "Permission check failed (/vms/102, VM.PowerMgmt)"},
		{reply("400 Parameter verification failed.", body("Parameter verification failed.", `{"vmid":"VM 101 already exists"}`)), KindInvalidParameters, "Parameter verification failed."},
		{reply("400 Parameter verification failed.", body("Parameter verification failed.", `{"upid":"no such task"}`)), KindNotFound, "Parameter verification failed."},
		{reply("400 Parameter verification failed.", body("Parameter verification failed.", `{"upid":"unable to parse worker upid"}`)), KindInvalidParameters, "Parameter verification failed."},
		{reply("404 no such thing", ""), KindNotFound, "no such thing"},
		{reply("500 Configuration file 'nodes/pve1/lxc/999.conf' does not exist", body("Configuration file 'nodes/pve1/lxc/999.conf' does not exist", "")), KindNotFound, "Configuration file 'nodes/pve1/lxc/999.conf' does not exist"},
		{reply("500 Configuration file 'nodes/pve1/lxc/999.conf' does not exist", `{"data":null}`), KindNotFound, "Configuration file 'nodes/pve1/lxc/999.conf' does not exist"},
		{reply("500 no such token 'x' for user 'alice@pve'", ""), KindNotFound, "no such token 'x' for user 'alice@pve'"},
		{reply("500 no such user ('x@pve')", ""), KindNotFound, "no such user ('x@pve')"},
		{reply("500 detected modified configuration - file changed by other user? Try again.", ""), KindChanged, "detected modified configuration - file changed by other user? Try again."},
		{reply("500 CT is locked (backup)", body("CT is locked (backup)", "")), KindServer, "CT is locked (backup)"},
		{reply("500 two lines", body("two\nlines", "")), KindServer, "two lines"},
		{reply("500 hostname lookup 'pve9' failed - ", ""), KindMemberUnreachable, "hostname lookup 'pve9' failed -"},
		{reply("500 proxy loop detected", ""), KindServer, "proxy loop detected"},
		{reply("501 Method 'GET /nosuch' not implemented", body("Method 'GET /nosuch' not implemented", "")), KindUnsupported, "Method 'GET /nosuch' not implemented"},
		{reply("595 Connection refused", ""), KindMemberUnreachable, "Connection refused"},
		{reply("596 tls_process_server_certificate: certificate verify failed", ""), KindMemberUnreachable, "tls_process_server_certificate: certificate verify failed"},
		{reply("598 x", `{"data":null}`), KindMemberUnreachable, "x"},
		{"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<html>nginx</html>", KindHostUnreachable, "Bad Gateway"},
		{"HTTP/1.1 500\r\n\r\n", KindServer, ""},
		{"HTTP/1.1 500 \r\n\r\nno JSON", KindServer, ""},
		{reply("400 x", `{"errors":[1]}`), KindInvalidParameters, "x"},
		{reply("400 x", `{"errors":{"a":{"b":1},"c":null,"d":7}}`), KindInvalidParameters, "x"},
	} {
		h, _ := pinned(t, always(c.answer))
		_, err := h.Containers(t.Context(), alice, "pve1")
		e := wantKind(t, err, c.kind)
		if e.Message != c.message || e.Op != "GET nodes/pve1/lxc" || e.Host != h.Address().String() || e.Status == 0 {
			t.Errorf("%+v, want message %q", e, c.message)
		}
	}
}

func TestErrorText(t *testing.T) {
	e := &Error{Kind: KindInvalidParameters, Op: "GET cluster/nextid", Host: "pve.lan:8006", Status: 400,
		Reason: "Parameter verification failed.", Message: "Parameter verification failed.", Fields: map[string]string{"vmid": "VM 101 already exists", "a": "b"}}
	if got := e.Error(); got != "GET cluster/nextid on pve.lan:8006: invalid parameters: 400: Parameter verification failed.; a: b; vmid: VM 101 already exists" {
		t.Error(got)
	}
	wrapped := fmt.Errorf("listing: %w", &Error{Kind: KindForbidden, Cause: http.ErrServerClosed})
	if !IsKind(wrapped, KindForbidden) || IsKind(wrapped, KindServer) || IsKind(http.ErrServerClosed, KindServer) || IsKind(nil, KindServer) {
		t.Error("IsKind")
	}
	if !errors.Is(wrapped, http.ErrServerClosed) {
		t.Error("the cause is lost")
	}
	for k := KindServer; k <= KindCanceled; k++ {
		if k.String() == "" || strings.HasPrefix(k.String(), "kind ") {
			t.Errorf("kind %d has no name", k)
		}
	}
	if Kind(-1).String() != "kind -1" || Kind(99).String() != "kind 99" {
		t.Error("unknown kinds")
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{" a\tb\nc ", 10, "a b c"},
		{"\x1b[31mred\x07\r\u202e\u2028", 20, "[31mred"},
		{"bad\xff\xfe", 10, "bad"},
		{"ééééé", 7, "éé…"},
		{"abc", 3, "abc"},
		{strings.Repeat("x", 5000), 10, "xxxxxxx…"},
		{"", 5, ""},
	} {
		if got := printable(c.in, c.limit); got != c.want {
			t.Errorf("printable(%.30q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add(400, "Parameter verification failed.", []byte(`{"data":null,"message":"Parameter verification failed.\n","errors":{"vmid":"x"}}`))
	f.Add(500, "CT 101 not running", []byte(`{"data":null}`))
	f.Add(595, "", []byte(``))
	f.Add(200, "OK", []byte(`{"success":0,"status":"401","data":null,"message":"x"}`))
	f.Add(400, "x", []byte(`{"errors":{"a\u001b":{"b":[1]}},"message":7}`))
	h := NewClient(Options{}).Host(Address{"pve.lan", 8006}, Trust{})
	f.Fuzz(func(t *testing.T, status int, phrase string, body []byte) {
		c := get(alice, "nodes")
		resp := &http.Response{StatusCode: status, Status: fmt.Sprintf("%d %s", status, phrase), Header: http.Header{}}
		e := h.statusError(c, resp, body)
		if status == 200 {
			resp.Body = io.NopCloser(bytes.NewReader(body))
			if _, err := h.readAnswer(t.Context(), c, resp); err != nil {
				e = err.(*Error)
			}
		}
		text := e.Error()
		if len(e.Message) > maxMessage || len(e.Reason) > maxMessage || len(e.Fields) > maxFields || len(text) > (maxFields+4)*2*maxMessage {
			t.Fatalf("an error of %d bytes", len(text))
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) {
			t.Fatalf("control characters in %q", text)
		}
	})
}
