package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/config"
	"berth/internal/pve/sim"
	"berth/internal/replicatest"
	"berth/internal/session"
	"berth/internal/store"
	"berth/internal/web"
)

// makeToken makes an access token for the browser's user, good for a year.
func (b *browser) makeToken(name string, scope session.Scope) (id, text string) {
	b.t.Helper()
	r := b.json("/api/tokens", map[string]any{"name": name, "scope": scope, "expiresAt": b.inDays(300)})
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("make a token: %d %s", r.StatusCode, r.body)
	}
	made := r.json(b.t)
	return made["id"].(string), made["token"].(string)
}

// inDays is a day as the API takes it.
func (b *browser) inDays(n int) string {
	return time.Now().AddDate(0, 0, n).UTC().Format(time.DateOnly)
}

// with sends a request with an access token, and no cookie.
func (b *bench) with(t *testing.T, token, method, path string, header ...string) reply {
	t.Helper()
	contentType := ""
	if method != http.MethodGet {
		contentType = "application/json"
	}
	return b.browser(t).do(method, path, contentType, "", append([]string{"Authorization", "Bearer " + token}, header...)...)
}

// sessionRoutes are the routes of the API that no access token opens, whatever its scope. Another one must say by WithScope
// what it needs.
var sessionRoutes = []string{
	"POST /api/auth/logout", "GET /api/auth/session",
	"GET /api/hosts", "POST /api/hosts", "POST /api/hosts/certificate", "POST /api/hosts/repin", "POST /api/hosts/remove",
	"GET /api/sessions", "POST /api/sessions/{id}/end", "POST /api/sessions/end-others",
	"GET /api/tokens", "POST /api/tokens", "DELETE /api/tokens/{id}",
	"POST /api/nodes", "POST /api/nodes/test", "PATCH /api/nodes/{id}", "DELETE /api/nodes/{id}", "POST /api/nodes/{id}/default",
	"POST /api/nodes/tokens/{id}/remove", "POST /api/nodes/tokens/{id}/forget",
	"GET /api/about",
}

// TestTokensOfEachScopeAtEveryRoute: an access token opens exactly the routes of the API that say so, and no page.
func TestTokensOfEachScopeAtEveryRoute(t *testing.T) {
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	owner := b.browser(t)
	owner.signIn(host, "root@pam")
	tokens := map[session.Scope]string{}
	for _, scope := range session.Scopes {
		_, tokens[scope] = owner.makeToken(string(scope), scope)
	}
	opened := 0
	for _, route := range b.Routes() {
		if route.Access() == web.Public {
			if route.Scope != session.SessionOnly {
				t.Errorf("%s is public, and has a scope", route.Pattern())
			}
			continue
		}
		if named := slices.Contains(sessionRoutes, route.Pattern()); route.Shape == web.API && named != (route.Scope == session.SessionOnly) {
			t.Errorf("%s has the scope %q, and is named as a route for sessions alone: %v", route.Pattern(), route.Scope, named)
		}
		for scope, text := range tokens {
			r := b.with(t, text, route.Method, concrete(route))
			where := fmt.Sprintf("%s with %s: %d %s", route.Pattern(), scope, r.StatusCode, r.body)
			switch {
			case route.Shape == web.Page:
				if r.StatusCode != http.StatusSeeOther || !strings.HasPrefix(r.Header.Get("Location"), "/login") {
					t.Error(where)
				}
				continue
			case route.Scope == session.SessionOnly:
				if p := r.json(t); r.StatusCode != http.StatusForbidden || p["code"] != "session_required" || p["hint"] == "" {
					t.Error(where)
				}
			case !scope.Covers(route.Scope):
				if p := r.json(t); r.StatusCode != http.StatusForbidden || p["code"] != "scope_missing" || p["scope"] != string(route.Scope) ||
					!strings.Contains(r.Header.Get("WWW-Authenticate"), "insufficient_scope") {
					t.Error(where)
				}
			default:
				opened++
				if r.StatusCode == http.StatusUnauthorized || r.StatusCode >= 500 || r.StatusCode == http.StatusForbidden &&
					(strings.Contains(r.body, "session_required") || strings.Contains(r.body, "scope_missing")) {
					t.Error(where)
				}
			}
			if len(r.Cookies()) > 0 || !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
				t.Errorf("%s: cookies %v, Cache-Control %q", where, r.Cookies(), r.Header.Get("Cache-Control"))
			}
		}
	}
	if opened < 6 {
		t.Errorf("only %d requests were let through", opened)
	}
	if !owner.signedIn() {
		t.Error("the walk ended the session")
	}
	// What is no route is told from what is none of theirs.
	if r := b.with(t, tokens[session.ScopeRead], "GET", "/api/nothing"); r.StatusCode != http.StatusNotFound {
		t.Errorf("no route: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseWrongTokens: what is no living access token opens nothing, not even beside a living session, and costs the
// browser nothing.
func TestAbuseWrongTokens(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	_, text := alice.makeToken("mine", session.ScopeAll)
	off := byte('a')
	if text[10] == off {
		off = 'b'
	}
	for name, headers := range map[string][]string{
		"made up":          {"Bearer berth_" + strings.Repeat("A", 43)},
		"one letter off":   {"Bearer " + text[:10] + string(off) + text[11:]},
		"without prefix":   {"Bearer " + strings.TrimPrefix(text, "berth_")},
		"with a rest":      {"Bearer " + text + "A"},
		"in other case":    {"Bearer " + strings.ToUpper(text)},
		"nothing":          {"Bearer"},
		"a session's":      {"Bearer " + alice.token()},
		"junk":             {"bearer <script>alert(1)</script>"},
		"two at once":      {"Bearer " + text, "Bearer " + text},
		"beside a name":    {"Basic YTpi", "Bearer " + text},
		"two in one":       {"Bearer " + text + ", Bearer " + text},
		"of somebody else": {"Bearer PVEAPIToken=root@pam!x=1"},
	} {
		var header []string
		for _, h := range headers {
			header = append(header, "Authorization", h)
		}
		for who, client := range map[string]*browser{"nobody": b.browser(t), "alice": alice} {
			r := client.do("GET", "/api/containers", "", "", header...)
			if r.StatusCode != http.StatusUnauthorized || r.json(t)["code"] != "token_invalid" ||
				!strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) || len(r.Cookies()) > 0 {
				t.Errorf("%s from %s: %d %q %v %s", name, who, r.StatusCode, r.Header.Get("WWW-Authenticate"), r.Cookies(), r.body)
			}
		}
	}
	// The password of a proxy is none of Berth's business, and a page looks at cookies alone.
	for _, header := range []string{"Basic YTpi", "Negotiate abc"} {
		if r := alice.do("GET", "/api/containers", "", "", "Authorization", header); r.StatusCode != http.StatusOK {
			t.Errorf("%s beside a session: %d", header, r.StatusCode)
		}
	}
	if r := alice.do("GET", "/", "", "", "Authorization", "Bearer nonsense"); r.StatusCode != http.StatusOK {
		t.Errorf("a page beside a wrong token: %d", r.StatusCode)
	}
	// Nor does a token count anywhere but in its header.
	for _, path := range []string{"/api/containers?access_token=" + text, "/api/containers?token=" + text} {
		if r := b.browser(t).get(path); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("in the address: %d", r.StatusCode)
		}
	}
	if r := b.browser(t).do("GET", "/api/containers", "", "", "Cookie", "lxc-session="+text); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("in the cookie: %d", r.StatusCode)
	}
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusOK {
		t.Errorf("the right one: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseTokenBesideSession: of a request with both, only the token counts.
func TestAbuseTokenBesideSession(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice, bob := b.browser(t), b.browser(t)
	alice.signIn(host, "alice@pve")
	bob.signIn(host, "frank@campus")
	_, text := alice.makeToken("mine", session.ScopeRead)
	if got := bob.do("GET", "/api/caller", "", "", "Authorization", "Bearer "+text).json(t); got["userId"] != "alice@pve" {
		t.Errorf("beside somebody's session: %v", got)
	}
	if r := bob.do("GET", "/api/tokens", "", "", "Authorization", "Bearer "+text); r.StatusCode != http.StatusForbidden || r.json(t)["code"] != "session_required" {
		t.Errorf("the session lent the token its rights: %d %s", r.StatusCode, r.body)
	}
	if got := bob.get("/api/caller").json(t); got["userId"] != "frank@campus" || got["token"] != nil {
		t.Errorf("without it: %v", got)
	}
}

func TestTokenIsShownOnceAndRevoked(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	id, text := alice.makeToken("backup", session.ScopePower)
	if !regexp.MustCompile(`^berth_[A-Za-z0-9_-]{43}$`).MatchString(text) {
		t.Errorf("the text is %q", text)
	}
	_, other := alice.makeToken("another", session.ScopeRead)
	if again := alice.get("/api/tokens").body; strings.Contains(again, text) || !strings.Contains(again, id) {
		t.Errorf("the list: %s", again)
	}
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusOK || r.json(t)["token"].(map[string]any)["scope"] != "power" {
		t.Fatalf("in use: %d %s", r.StatusCode, r.body)
	}
	// The last use is known at once, and survives the end of the program.
	used := func() any {
		t.Helper()
		b.written(t)
		for _, one := range alice.get("/api/tokens").json(t)["items"].([]any) {
			if one := one.(map[string]any); one["id"] == id {
				return one["lastUsedAt"]
			}
		}
		return "not listed"
	}
	want := b.now().UTC().Truncate(time.Millisecond).Format("2006-01-02T15:04:05.999Z07:00")
	if got := used(); got != want {
		t.Errorf("last used %v, want %v", got, want)
	}
	b.stop()
	b.begin(t)
	alice.base = b.URL()
	if got := used(); got != want {
		t.Errorf("last used %v after a restart, want %v", got, want)
	}
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusOK {
		t.Fatalf("after a restart: %d %s", r.StatusCode, r.body)
	}
	if r := alice.do("DELETE", "/api/tokens/"+id, "", ""); r.StatusCode != http.StatusOK {
		t.Fatalf("revoke: %d %s", r.StatusCode, r.body)
	}
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusUnauthorized || r.json(t)["code"] != "token_invalid" {
		t.Errorf("once revoked: %d %s", r.StatusCode, r.body)
	}
	if r := b.with(t, other, "GET", "/api/caller"); r.StatusCode != http.StatusOK {
		t.Errorf("the other one: %d %s", r.StatusCode, r.body)
	}
	if r := alice.do("DELETE", "/api/tokens/"+id, "", ""); r.StatusCode != http.StatusNotFound {
		t.Errorf("revoke again: %d %s", r.StatusCode, r.body)
	}
	var seen []string
	for _, e := range alice.entries("?whose=mine") {
		if strings.HasPrefix(e["action"].(string), "token_") {
			seen = append(seen, fmt.Sprint(e["action"], " ", e["target"], ": ", e["detail"]))
		}
	}
	if len(seen) != 3 || seen[0] != "token_revoke backup: scope power" || !strings.HasPrefix(seen[2], "token_create backup: scope power, until ") {
		t.Errorf("the trail: %q", seen)
	}
}

// Another process that works on the same database revokes a token here too.
func TestTokenRevokedElsewhere(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	id, text := alice.makeToken("mine", session.ScopeRead)
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusOK {
		t.Fatalf("at first: %d", r.StatusCode)
	}
	elsewhere, err := store.Open(t.Context(), b.folder)
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	hash, _ := session.HashToken(alice.token())
	her, err := elsewhere.FindSession(t.Context(), hash)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.RevokeToken(t.Context(), her.Identity, id); err != nil {
		t.Fatal(err)
	}
	b.advance(time.Second)
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a second later: %d %s", r.StatusCode, r.body)
	}
}

// An event stream ends with the token that it was asked for with.
func TestRevokedTokenEndsItsStream(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	_, away := b.newHost(t, sim.Options{})
	alice.addNode(signInThere(away, "root@pam", "attic")) // a token has no sign-in
	id, text := alice.makeToken("mine", session.ScopeRead)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL()+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+text)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if r := alice.do("DELETE", "/api/tokens/"+id, "", ""); r.StatusCode != http.StatusOK {
		t.Fatalf("revoke: %d %s", r.StatusCode, r.body)
	}
	rest, err := io.ReadAll(resp.Body) // comes back when the stream ends
	if err != nil || !strings.Contains(string(rest), "event: end") {
		t.Errorf("the stream: %q, %v", rest, err)
	}
}

func TestTokenExpires(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	at := b.now().Add(90 * time.Minute).UTC().Truncate(time.Second)
	r := alice.json("/api/tokens", map[string]any{"name": "short", "scope": "read", "expiresAt": at.Format(time.RFC3339)})
	text := r.json(t)["token"].(string)
	b.advance(at.Sub(b.now()) - time.Millisecond)
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusOK {
		t.Errorf("just before: %d %s", r.StatusCode, r.body)
	}
	b.advance(time.Millisecond) // it is in memory
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusUnauthorized || r.json(t)["code"] != "token_expired" {
		t.Errorf("just after: %d %s", r.StatusCode, r.body)
	}
	if got := alice.get("/api/tokens").json(t)["items"].([]any); len(got) != 1 || got[0].(map[string]any)["expired"] != true {
		t.Errorf("listed: %v", got)
	}
	b.advance(31 * 24 * time.Hour)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	alice.signIn(host, "alice@pve")
	if got := alice.get("/api/tokens").json(t)["items"].([]any); len(got) != 0 {
		t.Errorf("listed a month later: %v", got)
	}
}

// TestAbuseTokenOutlivesItsOwner: a token works only while its owner signs in from time to time.
func TestAbuseTokenOutlivesItsOwner(t *testing.T) {
	b := newBenchWith(t, func(s *config.Settings) { s.TokenIdle = 3 * 24 * time.Hour })
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	_, text := alice.makeToken("mine", session.ScopeAll)
	ask := func() reply { return b.with(t, text, "GET", "/api/caller") }
	b.advance(3*24*time.Hour - time.Minute)
	if err := b.Sweep(t.Context()); err != nil { // her session runs out, her sign-in stays known
		t.Fatal(err)
	}
	if r := ask(); r.StatusCode != http.StatusOK {
		t.Fatalf("within three days: %d %s", r.StatusCode, r.body)
	}
	b.advance(time.Minute)
	for range 2 {
		if r := ask(); r.StatusCode != http.StatusUnauthorized || r.json(t)["code"] != "token_idle" || !strings.Contains(r.body, "3 days") {
			t.Errorf("after three days: %d %s", r.StatusCode, r.body)
		}
	}
	// Somebody else's sign-in does not help, hers does.
	b.browser(t).signIn(host, "root@pam")
	if r := ask(); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("after another's sign-in: %d %s", r.StatusCode, r.body)
	}
	b.browser(t).signIn(host, "alice@pve")
	if r := ask(); r.StatusCode != http.StatusOK {
		t.Errorf("after hers: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseTokenOfRemovedHost: when no login host vouches for its owner any more, a token opens nothing.
func TestAbuseTokenOfRemovedHost(t *testing.T) {
	b := newBench(t)
	_, first := b.newHost(t, sim.Options{})
	_, second := b.newHost(t, sim.Options{})
	b.browser(t).signIn(first, "root@pam") // the last host can't be removed
	alice := b.browser(t)
	alice.signIn(second, "alice@pve")
	_, text := alice.makeToken("mine", session.ScopeAll)
	at, err := addressOf(second)
	if err != nil {
		t.Fatal(err)
	}
	known, err := b.store.LoginHostAt(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.RemoveHost(t.Context(), known.ID); err != nil {
		t.Fatal(err)
	}
	b.advance(time.Second)
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusUnauthorized || r.json(t)["code"] != "token_invalid" {
		t.Errorf("with a removed host: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseTokenOfRestoredDatabase: a token that was revoked does not come back with an older copy of the database.
func TestAbuseTokenOfRestoredDatabase(t *testing.T) {
	replicatest.Alone(t, replicatest.File)
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	id, text := alice.makeToken("mine", session.ScopeAll)
	b.stop()
	before := filepath.Join(t.TempDir(), "before.db")
	database := filepath.Join(b.folder, store.FileName)
	copyFile(t, database, before)
	b.begin(t)
	alice.base = b.URL()
	if r := alice.do("DELETE", "/api/tokens/"+id, "", ""); r.StatusCode != http.StatusOK {
		t.Fatalf("revoke: %d %s", r.StatusCode, r.body)
	}
	b.stop()
	copyFile(t, before, database)
	b.begin(t)
	b.browser(t).signIn(host, "alice@pve")
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("from an older copy: %d %s", r.StatusCode, r.body)
	}
}

// TestAbuseTokenInLogs: the text of a token is in no log, no database and no answer but its first.
func TestAbuseTokenInLogs(t *testing.T) {
	log := &logged{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	id, text := alice.makeToken("mine", session.ScopeRead)
	wrong := "berth_" + strings.Repeat("w", 42) + "A"
	var answers bytes.Buffer
	for _, path := range []string{"/api/caller", "/api/containers", "/api/sessions", "/api/nothing", "/api/audit"} {
		for _, token := range []string{text, wrong, text + "x"} {
			r := b.with(t, token, "GET", path)
			fmt.Fprintln(&answers, r.Header, r.body)
		}
	}
	alice.do("DELETE", "/api/tokens/"+id, "", "")
	answers.WriteString(alice.get("/api/audit").body + alice.get("/settings/tokens").body)
	b.stop()
	var stored bytes.Buffer
	for _, text := range b.folderFiles(t) {
		stored.Write(text)
	}
	for _, secret := range []string{text, strings.TrimPrefix(text, "berth_"), strings.Repeat("w", 42)} {
		for where, held := range map[string]string{"the log": log.text(), "an answer": answers.String(), "the data folder": stored.String()} {
			if strings.Contains(held, secret) {
				t.Errorf("%s holds %q", where, secret)
			}
		}
	}
}

// copyFile replaces a database that nobody has open by another one.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, rest := range []string{"-wal", "-shm"} {
		if err := os.Remove(to + rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTokenInput(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	good := func(change map[string]any) map[string]any {
		in := map[string]any{"name": "n", "scope": "read", "expiresAt": alice.inDays(1)}
		for k, v := range change {
			in[k] = v
		}
		return in
	}
	for name, test := range map[string]struct {
		in    map[string]any
		field string
	}{
		"no name":           {good(map[string]any{"name": " "}), "name"},
		"a long name":       {good(map[string]any{"name": strings.Repeat("ü", 65)}), "name"},
		"a name with a tab": {good(map[string]any{"name": "a\tb"}), "name"},
		"no scope":          {good(map[string]any{"scope": ""}), "scope"},
		"another scope":     {good(map[string]any{"scope": "root"}), "scope"},
		"no expiry":         {good(map[string]any{"expiresAt": ""}), "expiresAt"},
		"never":             {good(map[string]any{"expiresAt": "never"}), "expiresAt"},
		"yesterday":         {good(map[string]any{"expiresAt": alice.inDays(-1)}), "expiresAt"},
		"too far":           {good(map[string]any{"expiresAt": b.now().AddDate(1, 0, 1).UTC().Format(time.DateOnly)}), "expiresAt"},
		"a second too far":  {good(map[string]any{"expiresAt": b.now().AddDate(1, 0, 0).Add(time.Second).UTC().Format(time.RFC3339)}), "expiresAt"},
		"an unknown field":  {good(map[string]any{"owner": "root@pam"}), "owner"},
	} {
		r := alice.json("/api/tokens", test.in)
		problems, _ := r.json(t)["errors"].([]any)
		if r.StatusCode != http.StatusUnprocessableEntity || len(problems) != 1 || problems[0].(map[string]any)["field"] != test.field {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	if r := alice.json("/api/tokens", map[string]any{}); len(r.json(t)["errors"].([]any)) != 3 {
		t.Errorf("nothing at all: %s", r.body)
	}
	for name, in := range map[string]map[string]any{
		"today":  good(map[string]any{"name": "today", "expiresAt": b.now().UTC().Format(time.DateOnly)}),
		"a year": good(map[string]any{"name": strings.Repeat("ü", 64), "expiresAt": b.now().UTC().AddDate(1, 0, 0).Format(time.DateOnly)}),
	} {
		r := alice.json("/api/tokens", in)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
			continue
		}
		at, err := time.Parse(time.RFC3339, r.json(t)["expiresAt"].(string))
		if err != nil || !at.After(b.now()) || at.After(b.now().AddDate(1, 0, 0)) {
			t.Errorf("%s: expires %v, %v", name, at, err)
		}
	}
	if r := alice.json("/api/tokens", good(map[string]any{"name": "today"})); r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "already") {
		t.Errorf("a name again: %d %s", r.StatusCode, r.body)
	}
	for i := range 48 {
		alice.makeToken(fmt.Sprint("filler ", i), session.ScopeRead)
	}
	if r := alice.json("/api/tokens", good(nil)); r.StatusCode != http.StatusConflict || r.json(t)["code"] != "too_many_tokens" {
		t.Errorf("the 51st: %d %s", r.StatusCode, r.body)
	}
}

func TestTokenPage(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	alice := b.browser(t)
	alice.signIn(host, "alice@pve")
	r := alice.form("/settings/tokens", url.Values{"name": {"<b>bold</b>"}, "scope": {"power"}, "expiresAt": {alice.inDays(30)}})
	text := regexp.MustCompile(`berth_[A-Za-z0-9_-]{43}`).FindString(r.body)
	if r.StatusCode != http.StatusOK || text == "" || strings.Contains(r.body, "<b>bold") {
		t.Fatalf("make: %d %s", r.StatusCode, r.body)
	}
	if got := b.with(t, text, "GET", "/api/caller"); got.StatusCode != http.StatusOK {
		t.Errorf("the token: %d %s", got.StatusCode, got.body)
	}
	page := alice.get("/settings/tokens")
	if strings.Contains(page.body, text) || !strings.Contains(page.body, "&lt;b&gt;bold") {
		t.Errorf("the list: %s", page.body)
	}
	if r := alice.form("/settings/tokens", url.Values{"name": {""}, "scope": {"all"}, "expiresAt": {"2001-01-01"}}); r.StatusCode != http.StatusUnprocessableEntity ||
		!strings.Contains(r.body, "Name is required") || !strings.Contains(r.body, "Expiry must be in the future") {
		t.Errorf("nonsense: %d %s", r.StatusCode, r.body)
	}
	link := regexp.MustCompile(`/settings/tokens/[a-z0-9]{16}`).FindString(page.body)
	if r := alice.get(link); r.StatusCode != http.StatusOK || !strings.Contains(r.body, "Revoke this access token?") {
		t.Errorf("the question: %d", r.StatusCode)
	}
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusOK {
		t.Errorf("the question revoked it")
	}
	if r := alice.form(link+"/revoke", nil); r.StatusCode != http.StatusSeeOther {
		t.Errorf("revoke: %d", r.StatusCode)
	}
	if r := b.with(t, text, "GET", "/api/caller"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("once revoked: %d", r.StatusCode)
	}
	if r := alice.get(link); r.StatusCode != http.StatusNotFound {
		t.Errorf("the question again: %d", r.StatusCode)
	}
}
