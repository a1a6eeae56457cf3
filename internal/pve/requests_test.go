package pve

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

var (
	testUPID      = must(ParseUPID("UPID:pve1:0000C0DE:00A1B2C3:6B04135C:vzstart:101:alice@pve:"))
	testChallenge = must(parseChallenge("bob@pve", `PVE:!tfa!{"totp"%3Atrue,"recovery"%3A[0,1]}:6B041353::`+testSignature))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// everyCall is each call of a Host once, with all of its parameters.
var everyCall = map[string]func(context.Context, *Host) error{
	"SignIn": func(ctx context.Context, h *Host) error {
		_, err := h.SignIn(ctx, "alice@pve", "s e+c=r&e%t", WithForwardedFor(netip.MustParseAddr("::ffff:192.0.2.7")))
		return err
	},
	"AnswerChallenge": func(ctx context.Context, h *Host) error {
		_, err := h.AnswerChallenge(ctx, testChallenge, FactorTOTP, " 012 345 ")
		return err
	},
	"Renew":   func(ctx context.Context, h *Host) error { _, err := h.Renew(ctx, alice); return err },
	"Domains": func(ctx context.Context, h *Host) error { _, err := h.Domains(ctx); return err },
	"OpenIDAuthURL": func(ctx context.Context, h *Host) error {
		_, err := h.OpenIDAuthURL(ctx, "sso", "https://berth.example.org/login/openid")
		return err
	},
	"OpenIDLogin": func(ctx context.Context, h *Host) error {
		_, err := h.OpenIDLogin(ctx, `{"csrf_token":"a b","realm":"sso"}`, "c+d&e", "https://berth.example.org/login/openid")
		return err
	},
	"Permissions": func(ctx context.Context, h *Host) error {
		_, err := h.Permissions(ctx, alice)
		return err
	},
	"Version": func(ctx context.Context, h *Host) error {
		_, err := h.Version(ctx, Token{ID: "alice@pve!dash", Secret: "12345678-aaaa"})
		return err
	},
	"EachResource": func(ctx context.Context, h *Host) error {
		return h.EachResource(ctx, alice, GuestResources, func() func(Resource) error { return func(Resource) error { return nil } })
	},
	"Resources": func(ctx context.Context, h *Host) error {
		_, err := h.Resources(ctx, alice, GuestResources)
		return err
	},
	"ClusterStatus": func(ctx context.Context, h *Host) error { _, err := h.ClusterStatus(ctx, alice); return err },
	"Nodes":         func(ctx context.Context, h *Host) error { _, err := h.Nodes(ctx, alice); return err },
	"Storages":      func(ctx context.Context, h *Host) error { _, err := h.Storages(ctx, alice, "pve1"); return err },
	"NextID":        func(ctx context.Context, h *Host) error { _, err := h.NextID(ctx, alice, 105); return err },
	"Containers":    func(ctx context.Context, h *Host) error { _, err := h.Containers(ctx, alice, "pve1"); return err },
	"ContainerStatus": func(ctx context.Context, h *Host) error {
		_, err := h.ContainerStatus(ctx, alice, "pve1", 101)
		return err
	},
	"ContainerConfig": func(ctx context.Context, h *Host) error {
		_, err := h.ContainerConfig(ctx, alice, "pve1", 101)
		return err
	},
	"SetContainerConfig": func(ctx context.Context, h *Host) error {
		text := "# Hello & all"
		return h.SetContainerConfig(ctx, alice, "pve1", 101, ConfigChange{Tags: &[]string{}, Description: &text, Digest: "abc"})
	},
	"Interfaces": func(ctx context.Context, h *Host) error {
		_, err := h.Interfaces(ctx, alice, "pve1", 101)
		return err
	},
	"History": func(ctx context.Context, h *Host) error {
		_, err := h.History(ctx, alice, "pve1", 101, LastWeek, Maximum)
		return err
	},
	"Change": func(ctx context.Context, h *Host) error {
		_, err := h.Change(ctx, alice, "pve1", 101, ActionShutdown, ChangeOptions{Timeout: 1500 * time.Millisecond, ForceStop: true})
		return err
	},
	"DeleteContainer": func(ctx context.Context, h *Host) error {
		_, err := h.DeleteContainer(ctx, alice, "pve1", 101, DeleteOptions{Force: true, Purge: true, UnreferencedDisks: true})
		return err
	},
	"Tasks": func(ctx context.Context, h *Host) error {
		_, _, err := h.Tasks(ctx, alice, "pve1", TaskFilter{
			VMID: 101, Source: AllTasks, Type: "vzstart", User: "alice", Errors: true,
			Since: time.Unix(1700000000, 0), Until: time.Unix(1800000000, 0), Start: 50, Limit: 25,
		})
		return err
	},
	"ClusterTasks": func(ctx context.Context, h *Host) error { _, err := h.ClusterTasks(ctx, alice); return err },
	"TaskStatus":   func(ctx context.Context, h *Host) error { _, err := h.TaskStatus(ctx, alice, testUPID); return err },
	"TaskLog": func(ctx context.Context, h *Host) error {
		_, _, err := h.TaskLog(ctx, alice, testUPID, 100, 500)
		return err
	},
	"StopTask": func(ctx context.Context, h *Host) error { return h.StopTask(ctx, alice, testUPID) },
	"CreateToken": func(ctx context.Context, h *Host) error {
		_, err := h.CreateToken(ctx, alice, "alice@pve", "dash", TokenOptions{FullPrivileges: true, Expire: time.Unix(1800000000, 0), Comment: "a b"})
		return err
	},
	"Tokens": func(ctx context.Context, h *Host) error { _, err := h.Tokens(ctx, alice, "alice@pve"); return err },
	"SetTokenExpiry": func(ctx context.Context, h *Host) error {
		return h.SetTokenExpiry(ctx, alice, "alice@pve", "dash", time.Unix(1800000000, 0))
	},
	"DeleteToken": func(ctx context.Context, h *Host) error { return h.DeleteToken(ctx, alice, "alice@pve", "dash") },
}

// TestRequests shows what each call sends. Where the API schema is present the host checks it against that as well.
func TestRequests(t *testing.T) {
	const upid = "UPID:pve1:0000C0DE:00A1B2C3:6B04135C:vzstart:101:alice@pve:"
	type params = map[string]string
	want := map[string]struct {
		method, path string
		params       params
	}{
		"SignIn":          {"POST", "access/ticket", params{"username": "alice@pve", "password": "s e+c=r&e%t"}},
		"AnswerChallenge": {"POST", "access/ticket", params{"username": "bob@pve", "password": "totp:012345", "tfa-challenge": testChallenge.Ticket}},
		"Renew":           {"POST", "access/ticket", params{"username": "alice@pve", "password": alice.Value}},
		"Domains":         {"GET", "access/domains", nil},
		"OpenIDAuthURL":   {"POST", "access/openid/auth-url", params{"realm": "sso", "redirect-url": "https://berth.example.org/login/openid"}},
		"OpenIDLogin": {"POST", "access/openid/login", params{"state": `{"csrf_token":"a b","realm":"sso"}`, "code": "c+d&e",
			"redirect-url": "https://berth.example.org/login/openid"}},
		"Permissions":        {"GET", "access/permissions", nil},
		"Version":            {"GET", "version", nil},
		"EachResource":       {"GET", "cluster/resources", params{"type": "vm"}},
		"Resources":          {"GET", "cluster/resources", params{"type": "vm"}},
		"ClusterStatus":      {"GET", "cluster/status", nil},
		"Nodes":              {"GET", "nodes", nil},
		"Storages":           {"GET", "nodes/pve1/storage", nil},
		"NextID":             {"GET", "cluster/nextid", params{"vmid": "105"}},
		"Containers":         {"GET", "nodes/pve1/lxc", nil},
		"ContainerStatus":    {"GET", "nodes/pve1/lxc/101/status/current", nil},
		"ContainerConfig":    {"GET", "nodes/pve1/lxc/101/config", nil},
		"SetContainerConfig": {"PUT", "nodes/pve1/lxc/101/config", params{"delete": "tags", "description": "# Hello & all", "digest": "abc"}},
		"Interfaces":         {"GET", "nodes/pve1/lxc/101/interfaces", nil},
		"History":            {"GET", "nodes/pve1/lxc/101/rrddata", params{"timeframe": "week", "cf": "MAX"}},
		"Change":             {"POST", "nodes/pve1/lxc/101/status/shutdown", params{"timeout": "2", "forceStop": "1"}},
		"DeleteContainer":    {"DELETE", "nodes/pve1/lxc/101", params{"force": "1", "purge": "1", "destroy-unreferenced-disks": "1"}},
		"Tasks": {"GET", "nodes/pve1/tasks", params{"vmid": "101", "source": "all", "typefilter": "vzstart", "userfilter": "alice",
			"errors": "1", "since": "1700000000", "until": "1800000000", "start": "50", "limit": "25"}},
		"ClusterTasks":   {"GET", "cluster/tasks", nil},
		"TaskStatus":     {"GET", "nodes/pve1/tasks/" + upid + "/status", nil},
		"TaskLog":        {"GET", "nodes/pve1/tasks/" + upid + "/log", params{"start": "100", "limit": "500"}},
		"StopTask":       {"DELETE", "nodes/pve1/tasks/" + upid, nil},
		"CreateToken":    {"POST", "access/users/alice@pve/token/dash", params{"privsep": "0", "expire": "1800000000", "comment": "a b"}},
		"Tokens":         {"GET", "access/users/alice@pve/token", nil},
		"SetTokenExpiry": {"PUT", "access/users/alice@pve/token/dash", params{"expire": "1800000000"}},
		"DeleteToken":    {"DELETE", "access/users/alice@pve/token/dash", nil},
	}
	for name, call := range everyCall {
		t.Run(name, func(t *testing.T) {
			w, ok := want[name]
			if !ok {
				t.Fatal("nothing says what this call sends")
			}
			h, f := pinned(t, always(reply("500 that will do", "")))
			wantKind(t, call(t.Context(), h), KindServer)
			r := f.only()
			if r.Method != w.method || r.URL.Path != apiRoot+w.path {
				t.Errorf("%s %s, want %s %s", r.Method, r.URL.Path, w.method, w.path)
			}
			text := r.URL.RawQuery
			if w.method == http.MethodPost || w.method == http.MethodPut {
				text = r.body
				if len(r.TransferEncoding) > 0 || r.ContentLength != int64(len(r.body)) {
					t.Errorf("length %d, encoding %v", r.ContentLength, r.TransferEncoding)
				}
			} else if r.body != "" || r.Header.Get("Content-Type") != "" {
				t.Error("has a body")
			}
			got, err := url.ParseQuery(text)
			if err != nil {
				t.Fatal(err)
			}
			sent := params{}
			for name, values := range got {
				sent[name] = strings.Join(values, " twice ")
			}
			if !maps.Equal(sent, w.params) {
				t.Errorf("sends %v, want %v", sent, w.params)
			}
			checkAuthorization(t, name, r)
		})
	}
}

func checkAuthorization(t *testing.T, name string, r request) {
	t.Helper()
	if got := r.Header.Get("User-Agent"); got != "Berth" {
		t.Errorf("User-Agent %q", got)
	}
	if got := r.Header.Get("X-Forwarded-For"); (name == "SignIn") != (got == "192.0.2.7") {
		t.Errorf("X-Forwarded-For %q", got)
	}
	cookie, token, csrf := r.Header.Get("Cookie"), r.Header.Get("Authorization"), r.Header.Get("CSRFPreventionToken")
	switch name {
	case "SignIn", "AnswerChallenge", "Renew", "Domains", "OpenIDAuthURL", "OpenIDLogin":
		if cookie != "" || token != "" || csrf != "" {
			t.Error("sends credentials to a call that needs none")
		}
	case "Version":
		if token != "PVEAPIToken=alice@pve!dash=12345678-aaaa" || cookie != "" || csrf != "" {
			t.Errorf("Authorization %q, Cookie %q", token, cookie)
		}
	default:
		value, ok := strings.CutPrefix(cookie, "PVEAuthCookie=")
		if decoded, err := url.PathUnescape(value); !ok || err != nil || decoded != alice.Value || token != "" {
			t.Errorf("Authorization %q, Cookie %q", token, cookie)
		}
		if (csrf == alice.CSRF) == (r.Method == http.MethodGet) {
			t.Errorf("CSRF token %q for %s", csrf, r.Method)
		}
	}
}

// TestPathValues: what stands in a path can't become more than one segment of it.
func TestPathValues(t *testing.T) {
	h, f := pinned(t, always(ok(`[]`)))
	for _, node := range []string{"", ".", "..", "a/b", "/", "../../access/users"} {
		if _, err := h.Containers(t.Context(), alice, node); err == nil {
			t.Errorf("%q was sent", node)
		}
	}
	if len(f.seen()) != 0 {
		t.Fatal("something was sent")
	}
	// Not names of members, but safely sent: PVE is the one to refuse them.
	for _, node := range []string{"a?b=c", "a#b", "a%2fb", "a b", "ä", "a\r\nX: y", "a;b", strings.Repeat("a", 300)} {
		if _, err := h.Containers(t.Context(), alice, node); err != nil {
			t.Errorf("%q: %v", node, err)
			continue
		}
		seen := f.seen()
		if got := seen[len(seen)-1].URL; got.Path != apiRoot+"nodes/"+node+"/lxc" || got.RawQuery != "" {
			t.Errorf("%q was sent as %q", node, got)
		}
	}
}

func TestChangeOptions(t *testing.T) {
	h, f := pinned(t, always(ok(`"`+testUPID.String()+`"`)))
	for _, c := range []struct {
		action Action
		o      ChangeOptions
		body   string // "-" where it is refused here
	}{
		{ActionStart, ChangeOptions{}, ""},
		{ActionStop, ChangeOptions{OverruleShutdown: true}, "overrule-shutdown=1"},
		{ActionShutdown, ChangeOptions{Timeout: time.Minute}, "timeout=60"},
		{ActionReboot, ChangeOptions{Timeout: 1}, "timeout=1"},
		{ActionSuspend, ChangeOptions{}, ""},
		{ActionResume, ChangeOptions{}, ""},
		{ActionStart, ChangeOptions{Timeout: time.Minute}, "-"},
		{ActionStop, ChangeOptions{ForceStop: true}, "-"},
		{ActionReboot, ChangeOptions{ForceStop: true}, "-"},
		{ActionShutdown, ChangeOptions{OverruleShutdown: true}, "-"},
		{ActionShutdown, ChangeOptions{Timeout: -time.Second}, "-"},
		{"current", ChangeOptions{}, "-"},
		{"", ChangeOptions{}, "-"},
		{"../config", ChangeOptions{}, "-"},
	} {
		before := len(f.seen())
		upid, err := h.Change(t.Context(), alice, "pve1", 101, c.action, c.o)
		if c.body == "-" {
			if err == nil || len(f.seen()) != before {
				t.Errorf("%s %+v was sent", c.action, c.o)
			}
			continue
		}
		if err != nil || upid != testUPID {
			t.Errorf("%s: %v, %v", c.action, upid, err)
			continue
		}
		if r := f.seen()[before]; r.body != c.body || !strings.HasSuffix(r.URL.Path, "/status/"+string(c.action)) {
			t.Errorf("%s: %s with %q, want %q", c.action, r.URL.Path, r.body, c.body)
		}
	}
}
