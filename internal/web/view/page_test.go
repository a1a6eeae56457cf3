package view

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
)

const (
	fingerprintA = "4F:9C:21:0B:7E:AA:53:D8:16:C4:90:3B:E2:77:1D:68:A5:0E:F3:42:8B:D1:9A:36:5C:E7:04:BF:29:80:6D:13"
	fingerprintB = "A1:02:77:5D:0C:E9:3F:64:B8:2A:D5:91:4E:1B:F0:86:73:C8:3A:59:0D:E4:92:6F:B7:15:A8:4C:D0:3E:61:F9"
	hostile      = `"><script>alert(1)</script><b onclick='x'>`
)

// pages is every page in every state, below a base path, with text in it that tries to break out.
func pages() map[string]templ.Component {
	guest := Shell{Title: "Sign in " + hostile, BasePath: "/berth", Insecure: true}
	user := Shell{Title: "Containers", BasePath: "/berth", UserID: "alice@pve" + hostile, Host: "pve.lan:8006", Current: "containers"}
	login := Login{
		Shell: guest, Host: hostile, Port: "8006", Username: hostile, Realm: "pve", Next: hostile,
		Realms: []Realm{{Name: "pam", Comment: "Linux PAM"}, {Name: "pve"}, {Name: hostile, Comment: hostile, OpenID: true, Unavailable: hostile}},
	}
	failed, confirm, changed := login, login, login
	failed.Errors = map[string]string{
		"host": hostile, "port": "bad", "username": "bad", "password": "Password is required", "realm": "bad",
	}
	failed.Failure = &Failure{Message: hostile, Hint: hostile, ErrorID: hostile}
	confirm.Confirm = &Certificate{Address: hostile, Fingerprint: fingerprintA}
	provider := login
	provider.Provider = &Provider{Link: "https://idp.example.org/authorize?state=" + hostile, Host: hostile, Realm: hostile, Address: hostile}
	changed.Changed = &Certificate{Address: hostile, Fingerprint: fingerprintB, Previous: fingerprintA}
	factor := SecondFactor{
		Shell: guest, UserID: hostile, Address: hostile, Challenge: hostile, Next: hostile,
		Kinds: []Factor{{"totp", "TOTP code"}, {"recovery", hostile}}, Kind: "recovery", BrowserKey: true,
		Errors: map[string]string{"code": hostile, "kind": hostile}, Failure: &Failure{Message: hostile},
	}
	keyOnly := factor
	keyOnly.Kinds, keyOnly.RecoveryLeft = nil, -1
	full := Dashboard{
		Shell: user, Filter: Filter{Query: hostile, Status: "running", Node: "n1", Tag: hostile, Sort: "-mem"},
		Layout: Layout{Columns: everyColumn()}, Rows: rows(5), From: 120, Matches: 500,
		Total: 600, Running: 300, Stopped: 299, Other: 1, Nodes: 5, Selectable: true, Now: time.Unix(1240, 0),
		NodeList: []Choice{{"n1", hostile}, {"n2", "b"}}, TagList: []Choice{{hostile, hostile}},
		Problems: slices.Repeat([]NodeProblem{{Name: hostile, Address: hostile, Problem: hostile, WayOut: hostile, ReadAt: time.Unix(1000, 0)}}, 4),
	}
	for i := range full.Problems {
		full.Problems[i].NodeID = fmt.Sprint("n", i)
	}
	noMatch, cards, allDown := full, full, full
	noMatch.Rows, noMatch.Matches = nil, 0
	cards.Cards, cards.Columns = true, nil
	allDown.Nodes = 4
	noneKnown := Dashboard{Shell: user, Nodes: 1, Problems: full.Problems[:1], Selectable: true}
	return map[string]templ.Component{
		"login":             LoginPage(login),
		"login refused":     LoginPage(failed),
		"login confirm":     LoginPage(confirm),
		"login changed":     LoginPage(changed),
		"login provider":    LoginPage(provider),
		"openid return":     OpenIDReturnPage(OpenIDReturn{Shell: guest, Code: hostile, State: hostile}),
		"openid refused":    OpenIDReturnPage(OpenIDReturn{Shell: guest, Refused: true}),
		"second factor":     SecondFactorPage(factor),
		"second factor key": SecondFactorPage(keyOnly),
		"dashboard":         DashboardPage(full),
		"dashboard, cards":  DashboardPage(cards),
		"dashboard empty":   DashboardPage(Dashboard{Shell: user, Nodes: 1, Selectable: true}),
		"container":         ContainerDetailPage(containerPage(user)),
		"container, parts":  ContainerDetailPage(brokenContainer(user)),
		"dashboard nothing": DashboardPage(noMatch),
		"all nodes down":    DashboardPage(allDown),
		"the one node down": DashboardPage(noneKnown),
		"no nodes":          DashboardPage(Dashboard{Shell: user, Selectable: true}),
		"problem":           ProblemPage(Problem{Shell: user, Status: 404, Title: hostile, Message: hostile, ErrorID: hostile}),
		"problem, guest":    ProblemPage(Problem{Shell: guest, Status: 500, Title: hostile, Message: hostile}),
	}
}

func everyColumn() []string {
	var names []string
	for _, c := range Columns {
		names = append(names, c.Name)
	}
	return names
}

// rows makes n containers in all conditions.
func rows(n int) []Container {
	statuses := []string{"running", "stopped", hostile, "running"}
	out := make([]Container, n)
	for i := range out {
		out[i] = Container{
			NodeID: "n1", Node: "pve1", Host: "pve.lan", VMID: 100 + i, Name: fmt.Sprintf("web-%d", i), Status: statuses[i%4],
			CPU: 0.25, MaxCPU: 2, Mem: 1 << 29, MaxMem: 1 << 30, Disk: 1 << 30, MaxDisk: 8 << 30, Uptime: 4000,
			Tags: []string{"web", hostile}, Lock: hostile, Template: i == 3, VirtualMachine: i == 4, NetIn: 1 << 20,
			Addresses: []string{"192.0.2.7/24", hostile}, Refused: map[string]string{"start": hostile},
		}
	}
	return out
}

func render(t *testing.T, c templ.Component) string {
	t.Helper()
	var b strings.Builder
	if err := c.Render(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPagesObeyTheContentSecurityPolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)<style|<[^>]*\s(style|on[a-z]+|hx-on[a-z:-]*)\s*=|<script>|<script [^>]*>[^<]`)
	for name, page := range pages() {
		html := render(t, page)
		// What a visitor typed stands in attributes as text; only what opens a tag or an attribute counts.
		if found := forbidden.FindString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(html, `""`)); found != "" {
			t.Errorf("%s: %q", name, found)
		}
		if strings.Contains(html, "<b onclick") {
			t.Errorf("%s lets text become an element", name)
		}
	}
}

func TestPagesStayBelowTheBasePath(t *testing.T) {
	address := regexp.MustCompile(`\s(?:href|src|action|hx-get|hx-post)="([^"]*)"`)
	for name, page := range pages() {
		found := address.FindAllStringSubmatch(render(t, page), -1)
		if len(found) < 5 {
			t.Errorf("%s: only %d addresses", name, len(found))
		}
		for _, match := range found {
			toProvider := name == "login provider" && strings.HasPrefix(match[1], "https://idp.example.org/")
			if !strings.HasPrefix(match[1], "/berth/") && !strings.HasPrefix(match[1], "#") && !toProvider {
				t.Errorf("%s goes to %q", name, match[1])
			}
		}
	}
}

func TestPagesTieTextToControls(t *testing.T) {
	id := regexp.MustCompile(`\sid="([^"]+)"`)
	reference := regexp.MustCompile(`\s(?:for|aria-describedby|aria-labelledby|form)="([^"]+)"`)
	for name, page := range pages() {
		html := render(t, page)
		ids := map[string]int{}
		for _, match := range id.FindAllStringSubmatch(html, -1) {
			ids[match[1]]++
		}
		for id, times := range ids {
			if times > 1 {
				t.Errorf("%s has %d elements with the id %q", name, times, id)
			}
		}
		for _, match := range reference.FindAllStringSubmatch(html, -1) {
			for ref := range strings.FieldsSeq(match[1]) {
				if ids[ref] == 0 {
					t.Errorf("%s refers to %q, which isn't there", name, ref)
				}
			}
		}
		if n := strings.Count(html, "<h1"); n != 1 {
			t.Errorf("%s has %d main headings", name, n)
		}
		if n := strings.Count(html, " autofocus"); n > 1 {
			t.Errorf("%s wants the focus in %d places", name, n)
		}
	}
}

// Text that somebody else chose may run from right to left; it must not turn what stands beside it.
func TestNamesAreIsolated(t *testing.T) {
	const name = "\u05d0\u05dc\u05d9\u05e1@pve"
	user := Shell{UserID: name, Host: name}
	one := Session{ID: "x", UserID: name, Host: name, Address: name, LastFrom: name + "2"}
	for title, page := range map[string]templ.Component{
		"sessions":     SessionsPage(Sessions{Shell: user, Rows: []Session{one}, Everyone: true}),
		"end session":  EndSessionPage(EndSession{Shell: user, Session: one}),
		"audit":        AuditPage(Audit{Shell: user, Everyone: true, Rows: []AuditEntry{{UserID: name, Known: true, Host: name, Address: name, Target: name, Subject: name, SubjectHost: name, Detail: name}}}),
		"confirmation": LoginPage(Login{Confirm: &Certificate{Address: name}}),
		"factor":       SecondFactorPage(SecondFactor{UserID: name, Address: name}),
		"unknown host": UnknownHostPage(name),
	} {
		html := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(render(t, page), `""`)
		found := regexp.MustCompile(`<(\w+)[^<>]*>[^<>]*`+name).FindAllStringSubmatch(html, -1)
		if len(found) == 0 {
			t.Errorf("%s: the name is not there", title)
		}
		for _, element := range found {
			if element[1] != "bdi" {
				t.Errorf("%s: not isolated: %s", title, element[0])
			}
		}
	}
}

func TestLoginFocus(t *testing.T) {
	for _, c := range []struct {
		login Login
		want  string
	}{
		{Login{}, "host"},
		{Login{Host: "pve.lan"}, "username"},
		{Login{Host: "pve.lan", Username: "alice"}, "password"},
		{Login{Host: "pve.lan", Errors: map[string]string{"password": "x", "port": "x"}}, "port"},
	} {
		if got := c.login.focus(); got != c.want {
			t.Errorf("focus of %+v is %q, want %q", c.login, got, c.want)
		}
	}
}

func TestLoginKeepsWhatWasTyped(t *testing.T) {
	html := render(t, LoginPage(Login{
		Host: "pve.lan", Port: "", Username: "alice", Realm: "pve", Next: "/x?y=1",
		Realms: []Realm{{Name: "pam", Comment: "Linux PAM"}, {Name: "pve"}, {Name: hostile, Comment: hostile, OpenID: true, Unavailable: hostile}},
		Errors: map[string]string{"port": "Port is required"},
	}))
	for _, want := range []string{
		`value="pve.lan"`, `value="alice"`, `name="next" value="/x?y=1"`, `<option value="pve" selected>`,
		`placeholder="192.168.1.100 or pve.local"`, `autocomplete="current-password"`, `id="port-error"`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("no %s", want)
		}
	}
	// The empty port that was refused must not turn into 8006 behind the visitor's back.
	if strings.Contains(html, `value="8006"`) {
		t.Error("the port field was refilled")
	}
}

func TestConfirmationCarriesEverythingButThePassword(t *testing.T) {
	html := render(t, LoginPage(Login{
		Host: "pve.lan", Port: "8443", Username: "alice", Realm: "pve", Confirm: &Certificate{"pve.lan:8443", fingerprintA, ""},
	}))
	names := map[string]bool{}
	for _, match := range regexp.MustCompile(`<input[^>]* name="([a-z]+)"`).FindAllStringSubmatch(html, -1) {
		names[match[1]] = true
	}
	got := slices.Sorted(maps.Keys(names))
	want := []string{"fingerprint", "host", "next", "password", "port", "realm", "theme", "username"}
	if !slices.Equal(got, want) {
		t.Errorf("fields %q, want %q", got, want)
	}
	if !strings.Contains(html, `name="fingerprint" value="`+fingerprintA+`"`) {
		t.Error("the fingerprint isn't sent back")
	}
}

func TestChangedCertificateOffersNoWayOn(t *testing.T) {
	html := render(t, LoginPage(Login{Changed: &Certificate{"pve.lan:8006", fingerprintB, fingerprintA}}))
	if strings.Contains(html, "<form") {
		t.Error("a form can be sent")
	}
	known, now := strings.Index(html, "4F:9C:21:0B"), strings.Index(html, "A1:02:77:5D")
	if known < 0 || now < known {
		t.Errorf("known fingerprint at %d, presented one at %d", known, now)
	}
}

func TestSecondFactorOfBrowserKeysOnly(t *testing.T) {
	html := render(t, SecondFactorPage(SecondFactor{BrowserKey: true, RecoveryLeft: -1}))
	if strings.Contains(html, `name="code"`) {
		t.Error("asks for a code that can't exist")
	}
	if !strings.Contains(html, "Two Factor") {
		t.Error("doesn't say what can be done")
	}
}

func BenchmarkDashboardOf100(b *testing.B) {
	page := DashboardPage(Dashboard{
		Shell: Shell{UserID: "alice@pve", Host: "pve.lan:8006"}, Rows: rows(100), Matches: 100, Total: 100, Running: 100, Nodes: 1, Selectable: true,
	})
	b.ReportAllocs()
	for b.Loop() {
		if err := page.Render(context.Background(), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
