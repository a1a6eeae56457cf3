package pve

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRetries(t *testing.T) {
	const failing = 99
	version := ok(`{"version":"9.1.1","release":"9.1"}`)
	for _, c := range []struct {
		name    string
		failure string
		fails   int // how many answers are failures
		want    int // requests that a GET makes
		kind    Kind
	}{
		{"none", "", 0, 1, 0},
		{"502 once", reply("502 Bad Gateway", ""), 1, 2, 0},
		{"503 twice", reply("503 Service Unavailable", ""), 2, 3, 0},
		{"595 twice", reply("595 No route to host", ""), 2, 3, 0},
		{"595", reply("595 Connection refused", ""), failing, 3, KindMemberUnreachable},
		{"596", reply("596 Connection timed out", ""), failing, 3, KindMemberUnreachable},
		{"599", reply("599 Too many redirections", ""), failing, 3, KindMemberUnreachable},
		{"597", reply("597 Connection reset by peer", ""), failing, 1, KindMemberUnreachable},
		{"502", reply("502 Bad Gateway", ""), failing, 3, KindHostUnreachable},
		{"504", reply("504 Gateway Timeout", ""), failing, 1, KindHostUnreachable},
		{"no answer", "", failing, 3, KindHostUnreachable},
		{"no answer once", "", 1, 2, 0},
		{"cut within the body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{\"data\":", failing, 3, KindHostUnreachable},
		{"cut within the header", "HTTP/1.1 200 OK\r\nServer: x\r\n", failing, 3, KindHostUnreachable},
		{"401", reply("401 Authentication failed!", ""), failing, 1, KindUnauthenticated},
		{"403", reply("403 Permission check failed", ""), failing, 1, KindForbidden},
		{"500", reply("500 CT 101 not running", ""), failing, 1, KindServer},
		{"HTML", reply("200 OK", "<html>"), failing, 1, KindNotProxmox},
		{"redirect", reply("301 Moved Permanently\r\nLocation: https://127.0.0.1/", ""), failing, 1, KindNotProxmox},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, f := pinned(t, func(n int, _ *http.Request, _ string) string {
				if n <= c.fails {
					return c.failure
				}
				return version
			})
			_, err := h.Version(t.Context(), alice)
			if c.fails < failing && err != nil {
				t.Error(err)
			} else if c.fails == failing {
				wantKind(t, err, c.kind)
			}
			if got := len(f.seen()); got != c.want {
				t.Errorf("%d requests, want %d", got, c.want)
			}
			if c.fails == 0 {
				return
			}

			// Nothing but a GET is ever sent twice.
			for name, change := range map[string]func(*Host) error{
				"POST": func(h *Host) error {
					_, err := h.Change(t.Context(), alice, "pve1", 101, ActionStart, ChangeOptions{})
					return err
				},
				"DELETE": func(h *Host) error {
					_, err := h.DeleteContainer(t.Context(), alice, "pve1", 101, DeleteOptions{})
					return err
				},
				"sign-in": func(h *Host) error { _, err := h.SignIn(t.Context(), "alice@pve", "secret"); return err },
			} {
				h, f := pinned(t, always(c.failure))
				if change(h) == nil {
					t.Errorf("%s succeeded", name)
				}
				if got := len(f.seen()); got != 1 {
					t.Errorf("%s: %d requests, want 1", name, got)
				}
			}
		})
	}
}

// TestRetryPauses: two pauses, the second twice the first, and none after the last attempt.
func TestRetryPauses(t *testing.T) {
	h, _ := pinned(t, always(reply("595 No route to host", "")))
	var pauses []time.Duration
	h.client.pause = func(_ context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		return nil
	}
	_, err := h.Nodes(t.Context(), alice)
	wantKind(t, err, KindMemberUnreachable)
	if len(pauses) != 2 || pauses[0] != firstPause || pauses[1] != 2*firstPause {
		t.Errorf("pauses %v", pauses)
	}
	if err := pause(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause(ctx, time.Hour); err == nil {
		t.Error("a pause outlived its context")
	}
}

// TestClosedPort: nothing listens, which is tried three times.
func TestClosedPort(t *testing.T) {
	f := newFakeHost(t, testCert, always(""))
	address := f.address()
	f.listener.Close()
	_, err := newTestClient(t, Options{}).Host(address, Trust{}).Nodes(t.Context(), alice)
	e := wantKind(t, err, KindHostUnreachable)
	if e.Status != 0 || e.Host != address.String() || e.Op != "GET nodes" {
		t.Errorf("%+v", e)
	}
}

func TestLimits(t *testing.T) {
	endless := func(n int, _ *http.Request, _ string) string {
		return "HTTP/1.1 200 OK\r\n\r\n{\"data\":\"" + strings.Repeat("x", 1<<20)
	}
	t.Run("list", func(t *testing.T) {
		f := newFakeHost(t, testCert, endless)
		h := newTestClient(t, Options{MaxBody: 64 << 10}).Host(f.address(), Trust{Key: keyPin(testCert)})
		_, err := h.Resources(t.Context(), alice, AllResources)
		wantKind(t, err, KindTooLarge)
		f.only()
	})
	t.Run("sign-in", func(t *testing.T) {
		h, _ := pinned(t, endless)
		_, err := h.SignIn(t.Context(), "alice@pve", "secret")
		wantKind(t, err, KindTooLarge)
	})
	t.Run("just fits", func(t *testing.T) {
		body := `{"data":[{"node":"pve1"}]}`
		f := newFakeHost(t, testCert, always(reply("200 OK", body)))
		h := newTestClient(t, Options{MaxBody: int64(len(body))}).Host(f.address(), Trust{Key: keyPin(testCert)})
		if list, err := h.Nodes(t.Context(), alice); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
		h = newTestClient(t, Options{MaxBody: int64(len(body)) - 1}).Host(f.address(), Trust{Key: keyPin(testCert)})
		_, err := h.Nodes(t.Context(), alice)
		wantKind(t, err, KindTooLarge)
	})
	t.Run("header", func(t *testing.T) {
		h, f := pinned(t, always("HTTP/1.1 200 OK\r\nX-Long: "+strings.Repeat("x", 128<<10)+"\r\n\r\n"))
		_, err := h.Nodes(t.Context(), alice)
		wantKind(t, err, KindNotProxmox)
		f.only()
	})
	t.Run("refusal", func(t *testing.T) {
		h, _ := pinned(t, always("HTTP/1.1 403 Permission check failed\r\n\r\n"+strings.Repeat("x", 1<<20)))
		_, err := h.Nodes(t.Context(), alice)
		wantKind(t, err, KindForbidden)
	})
	t.Run("reason", func(t *testing.T) {
		h, _ := pinned(t, always("HTTP/1.1 500 "+strings.Repeat("é\a", 20<<10)+"\r\nContent-Length: 0\r\n\r\n"))
		_, err := h.Nodes(t.Context(), alice)
		e := wantKind(t, err, KindServer)
		if len(e.Reason) > maxMessage || len(e.Error()) > 2*maxMessage || strings.ContainsRune(e.Error(), '\a') {
			t.Errorf("%d bytes of reason, %d of text", len(e.Reason), len(e.Error()))
		}
	})
	for name, data := range map[string]string{
		"deep list":    strings.Repeat("[", 100_000),
		"deep objects": strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
		"closed deep":  strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"many rows":    "[" + strings.Repeat("{},", maxRows) + "{}]",
		"many members": `[{"a":1` + strings.Repeat(`,"a":1`, maxMembers) + `}]`,
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := pinned(t, always(ok(data)))
			_, err := h.Resources(t.Context(), alice, AllResources)
			wantKind(t, err, KindTooLarge)
			_, err = h.Permissions(t.Context(), alice)
			wantKind(t, err, KindTooLarge)
			h, _ = pinned(t, always(reply("500 deep", `{"data":null,"errors":`+data)))
			_, err = h.Resources(t.Context(), alice, AllResources)
			wantKind(t, err, KindServer)
		})
	}
	t.Run("largest list", func(t *testing.T) {
		h, _ := pinned(t, always(ok("["+strings.Repeat("{},", maxKept-1)+"{}]")))
		if list, err := h.Resources(t.Context(), alice, AllResources); err != nil || len(list) != maxKept {
			t.Errorf("%d rows, %v", len(list), err)
		}
		h, _ = pinned(t, always(ok("["+strings.Repeat("{},", maxKept)+"{}]")))
		_, err := h.Resources(t.Context(), alice, AllResources)
		wantKind(t, err, KindTooLarge)
	})
	t.Run("one by one", func(t *testing.T) {
		h, _ := pinned(t, always(ok("["+strings.Repeat("{},", maxRows-1)+"{}]")))
		n := 0
		each := func() func(Resource) error { n = 0; return func(Resource) error { n++; return nil } }
		if err := h.EachResource(t.Context(), alice, AllResources, each); err != nil || n != maxRows {
			t.Errorf("%d rows, %v", n, err)
		}
		err := h.EachResource(t.Context(), alice, AllResources, func() func(Resource) error { return func(Resource) error { return ErrTooMany } })
		wantKind(t, err, KindTooLarge)
		if !errors.Is(err, ErrTooMany) {
			t.Errorf("the cause is lost: %v", err)
		}
	})
	t.Run("long row", func(t *testing.T) {
		for name, data := range map[string]string{
			"a text":      `[{"name":"` + strings.Repeat("x", maxRow) + `"}]`,
			"many":        `[{"a":"` + strings.Repeat(`x","b":"`, maxRow/8) + `"}]`,
			"white space": `[` + strings.Repeat(" ", maxRow+1) + `]`,
			"a number":    `[{"vmid":` + strings.Repeat("1", maxRow) + `}]`,
		} {
			h, _ := pinned(t, always(ok(data)))
			_, err := h.Resources(t.Context(), alice, AllResources)
			if !IsKind(err, KindTooLarge) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Nor in what stands beside the data.
		h, _ := pinned(t, always(reply("200 OK", `{"x":{"y":[["`+strings.Repeat("x", maxRow)+`"]]},"data":[]}`)))
		_, err := h.Resources(t.Context(), alice, AllResources)
		wantKind(t, err, KindTooLarge)
		h, _ = pinned(t, always(reply("200 OK", `{"x":[`+strings.Repeat(`{"y":[1]},`, 1000)+`1],"data":[{"id":"a"}],"total":"7"}`)))
		if list, err := h.Resources(t.Context(), alice, AllResources); err != nil || len(list) != 1 {
			t.Errorf("a list beside the data: %v, %v", list, err)
		}
	})
	t.Run("an attempt that broke off", func(t *testing.T) {
		h, _ := pinned(t, func(n int, _ *http.Request, _ string) string {
			whole := reply("200 OK\r\nConnection: close", `{"data":[{"id":"a"},{"id":"b"},{"id":"c"}]}`)
			if n == 1 {
				return whole[:len(whole)-14]
			}
			return whole
		})
		list, err := h.Resources(t.Context(), alice, AllResources)
		if err != nil || len(list) != 3 {
			t.Errorf("%v, %v: want the entries of the second attempt alone", list, err)
		}
	})
}

// TestCompression: none is asked for, so none can unfold.
func TestCompression(t *testing.T) {
	var packed strings.Builder
	w := gzip.NewWriter(&packed)
	io.WriteString(w, `{"data":[]}`)
	w.Close()
	h, f := pinned(t, always(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", packed.Len(), packed.String())))
	_, err := h.Nodes(t.Context(), alice)
	wantKind(t, err, KindNotProxmox)
	if got := f.only().Header.Get("Accept-Encoding"); got != "" {
		t.Errorf("Accept-Encoding: %s", got)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := newFakeHost(t, testCert, always(ok(`[]`)))
	for _, status := range []string{"301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"} {
		h, f := pinned(t, always(fmt.Sprintf("HTTP/1.1 %s\r\nLocation: https://%s/api2/json/nodes\r\nContent-Length: 0\r\n\r\n", status, elsewhere.address())))
		_, err := h.Nodes(t.Context(), alice)
		wantKind(t, err, KindNotProxmox)
		_, err = h.SignIn(t.Context(), "alice@pve", "secret")
		wantKind(t, err, KindNotProxmox)
		if len(f.seen()) != 2 {
			t.Errorf("%s: %d requests", status, len(f.seen()))
		}
	}
	nothingSent(t, elsewhere, 0)
}

func TestProxyEnvironmentIsIgnored(t *testing.T) {
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	var asked sync.Once
	used := false
	go func() {
		for {
			conn, err := proxy.Accept()
			if err != nil {
				return
			}
			asked.Do(func() { used = true })
			conn.Close()
		}
	}()
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://"+proxy.Addr().String())
	}
	t.Setenv("NO_PROXY", "")
	h, _ := pinned(t, always(ok(`[]`)))
	if h.transport.Proxy != nil {
		t.Error("the transport has a proxy")
	}
	if _, err := h.Nodes(t.Context(), alice); err != nil {
		t.Error(err)
	}
	asked.Do(func() {})
	if used {
		t.Error("the proxy was used")
	}
}

func TestNotProxmox(t *testing.T) {
	for name, answer := range map[string]string{
		"HTML":            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
		"HTML 404":        "HTTP/1.1 404 Not Found\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 13\r\n\r\n<html></html>",
		"HTML 401":        "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
		"empty":           reply("200 OK", ""),
		"no content":      "HTTP/1.1 204 No Content\r\n\r\n",
		"no data":         reply("200 OK", `{"result":[]}`),
		"list":            reply("200 OK", `[{"data":1}]`),
		"text":            reply("200 OK", `"data"`),
		"null":            reply("200 OK", `null`),
		"two values":      reply("200 OK", `{"data":[]}{}`),
		"cut JSON":        reply("200 OK", `{"data":[`),
		"wrong shape":     ok(`{"version":{}}`),
		"a number":        ok(`7`),
		"a text":          ok(`"x"`),
		"list of numbers": ok(`[1,2]`),
		"not HTTP":        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"bad status":      "HTTP/1.1 abc OK\r\n\r\n",
		"bad header":      "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"bad length":      "HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n",
		"switching":       "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"many 100s":       strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("x", 10<<10)+"\r\n\r\n", 20),
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := pinned(t, always(answer))
			_, err := h.SignIn(t.Context(), "alice@pve", "secret")
			wantKind(t, err, KindNotProxmox)
			if name == "list of numbers" || name == "wrong shape" || name == "a number" || name == "a text" {
				_, err = h.Nodes(t.Context(), alice)
				wantKind(t, err, KindNotProxmox)
			}
			_, err = h.Version(t.Context(), alice)
			wantKind(t, err, KindNotProxmox)
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.NotFoundHandler()}
		go server.Serve(listener)
		t.Cleanup(func() { server.Close() })
		port := netip.MustParseAddrPort(listener.Addr().String()).Port()
		_, err = newTestClient(t, Options{}).Host(Address{"127.0.0.1", int(port)}, Trust{}).Domains(t.Context())
		wantKind(t, err, KindNotProxmox)
	})
}

// TestNullIsNeverSuccess: {"data":null} behind any status but 2xx is an error for every kind of call.
func TestNullIsNeverSuccess(t *testing.T) {
	for _, status := range []string{"301 x", "400 x", "401 x", "403 x", "404 x", "500 x", "501 x", "503 x", "595 x", "596 x", "599 x", "600 x", "999 x"} {
		h, _ := pinned(t, always(reply(status, `{"data":null}`)))
		for name, call := range everyCall {
			if err := call(t.Context(), h); err == nil {
				t.Errorf("%s: %s succeeded", status, name)
			} else if e := (*Error)(nil); !errors.As(err, &e) {
				t.Errorf("%s: %s: %v", status, name, err)
			}
		}
	}
}

// stalled accepts connections and says nothing.
func stalled(t *testing.T) Address {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return Address{"127.0.0.1", int(netip.MustParseAddrPort(listener.Addr().String()).Port())}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const limit = 50 * time.Millisecond
	t.Run("handshake", func(t *testing.T) {
		h := newTestClient(t, Options{ConnectTimeout: limit}).Host(stalled(t), Trust{})
		_, err := h.SignIn(t.Context(), "alice@pve", "secret")
		e := wantKind(t, err, KindHostUnreachable)
		if !strings.Contains(e.Error(), "no connection within 50ms") {
			t.Error(e)
		}
	})
	t.Run("answer", func(t *testing.T) {
		t.Parallel() // long enough for a busy machine to send the request
		f := newFakeHost(t, testCert, always(hangs))
		h := newTestClient(t, Options{CallTimeout: 5 * time.Second, SignInTimeout: time.Hour}).Host(f.address(), Trust{Key: keyPin(testCert)})
		_, err := h.Nodes(t.Context(), alice)
		if e := wantKind(t, err, KindHostUnreachable); !errors.Is(e, context.DeadlineExceeded) || !strings.Contains(e.Error(), "no answer within 5s") {
			t.Error(e)
		}
		f.only()
	})
	// The whole call has one limit, the pauses between its attempts included.
	t.Run("retry", func(t *testing.T) {
		f := newFakeHost(t, testCert, always(reply("595 x", "")))
		c := newTestClient(t, Options{CallTimeout: time.Hour})
		c.pause = func(ctx context.Context, _ time.Duration) error {
			if end, limited := ctx.Deadline(); !limited || time.Until(end) > time.Hour {
				t.Errorf("a pause may last until %v, %v", end, limited)
			}
			return context.DeadlineExceeded // as when it ends the call
		}
		_, err := c.Host(f.address(), Trust{Key: keyPin(testCert)}).Nodes(t.Context(), alice)
		wantKind(t, err, KindMemberUnreachable) // the last thing that is known
		f.only()
	})
	t.Run("sign-in", func(t *testing.T) {
		f := newFakeHost(t, testCert, always(hangs))
		h := newTestClient(t, Options{CallTimeout: time.Hour, SignInTimeout: limit}).Host(f.address(), Trust{Key: keyPin(testCert)})
		_, err := h.SignIn(t.Context(), "alice@pve", "secret")
		wantKind(t, err, KindHostUnreachable)
		_, err = h.Renew(t.Context(), alice)
		wantKind(t, err, KindHostUnreachable)
	})
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h, f := pinned(t, func(int, *http.Request, string) string { cancel(); return hangs })
		_, err := h.Nodes(ctx, alice)
		e := wantKind(t, err, KindCanceled)
		if !errors.Is(e, context.Canceled) {
			t.Error(e)
		}
		f.only()
		_, err = h.Handshake(ctx)
		wantKind(t, err, KindCanceled)
	})
	t.Run("caller's deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		h, _ := pinned(t, always(hangs))
		_, err := h.Nodes(ctx, alice)
		wantKind(t, err, KindHostUnreachable)
	})
}

// TestConnectionsAreReused: whatever is asked of a host goes by one pool, sign-ins included.
func TestConnectionsAreReused(t *testing.T) {
	h, f := pinned(t, func(_ int, r *http.Request, _ string) string {
		if r.Method == http.MethodPost {
			return ok(`{"username":"alice@pve","ticket":"` + alice.Value + `","CSRFPreventionToken":"x"}`)
		}
		return ok(`[]`)
	})
	for range 5 {
		if _, err := h.SignIn(t.Context(), "alice@pve", "berth-demo"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Nodes(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
	}
	if f.accepted != 1 {
		t.Errorf("%d connections for 10 calls", f.accepted)
	}
	if r := f.seen()[0]; r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		t.Errorf("spoke %s", r.Proto)
	}
}

func TestHostPool(t *testing.T) {
	c := newTestClient(t, Options{})
	a := Address{"pve.lan", 8006}
	pin, other := KeyPin{1}, KeyPin{1}
	certificate := Fingerprint{1}
	plain := c.Host(a, Trust{})
	if again := c.Host(a, Trust{}); again != plain {
		t.Error("equal hosts are two")
	}
	if c.Host(a, Trust{Key: &pin}) != c.Host(a, Trust{Key: &other}) {
		t.Error("hosts with equal pins are two")
	}
	hosts := map[*Host]bool{
		c.Host(a, Trust{}): true, c.Host(a, Trust{Key: &pin}): true, c.Host(a, Trust{Certificate: &certificate}): true,
		c.Host(a, Trust{Key: &pin, Certificate: &certificate}): true, c.Host(a, Trust{Key: new(KeyPin)}): true,
		c.Host(Address{"pve.lan", 443}, Trust{}): true, c.Host(Address{"pve2.lan", 8006}, Trust{}): true,
	}
	if len(hosts) != 7 {
		t.Errorf("7 different hosts share %d pools", len(hosts))
	}

	first := c.Host(a, Trust{})
	for i := range 2 * maxHosts {
		c.Host(Address{fmt.Sprintf("pve%d.lan", i), 8006}, Trust{})
		if i%100 == 0 {
			c.Host(a, Trust{})
		}
	}
	if len(c.hosts) != maxHosts || c.used.Len() != maxHosts {
		t.Errorf("%d hosts are remembered", len(c.hosts))
	}
	if c.Host(a, Trust{}) != first {
		t.Error("a host in use was forgotten")
	}
	if first.Address() != a {
		t.Error("not its address")
	}
}

// TestForgottenHost: who holds a Host goes on using it after the pool has let it go.
func TestForgottenHost(t *testing.T) {
	h, _ := pinned(t, always(ok(`[]`)))
	h.client.Close()
	defer h.transport.CloseIdleConnections()
	for range 2 {
		if _, err := h.Nodes(t.Context(), alice); err != nil {
			t.Error(err)
		}
	}
}

func TestConcurrentCalls(t *testing.T) {
	h, _ := pinned(t, always(ok(`[{"node":"pve1"}]`)))
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			if list, err := h.Nodes(t.Context(), alice); err != nil || len(list) != 1 {
				t.Errorf("%v, %v", list, err)
			}
			h.Peer()
			h.client.Host(h.address, h.trust)
		})
	}
	calls.Wait()
}

// BenchmarkResources reads a list of 100 containers off the wire.
func BenchmarkResources(b *testing.B) {
	row := `{"id":"lxc/101","type":"lxc","vmid":101,"name":"gitea","status":"running","node":"pve1","cpu":0.0123,"maxcpu":2,` +
		`"mem":123456789,"maxmem":1073741824,"disk":123456789,"maxdisk":8589934592,"uptime":86400,"netin":1,"netout":2,` +
		`"diskread":3,"diskwrite":4,"tags":"a;b","template":0}`
	data := []byte("[" + strings.Repeat(row+",", 99) + row + "]")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if checkShape(data) != nil {
			b.Fatal("refused")
		}
		if list, err := readRows(data, readResource); err != nil || len(list) != 100 {
			b.Fatal(err)
		}
	}
}
