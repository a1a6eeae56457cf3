package app

import (
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
	"berth/internal/web"
)

// TestAbuseStolenCookieReadsNoSecret: whoever has the cookie, and asks every route there is, learns neither ticket nor CSRF
// token nor the token itself; and whoever reads the log, at its most talkative, learns none of these either, nor passwords and
// codes, right or wrong, in requests of whatever shape.
func TestAbuseStolenCookieReadsNoSecret(t *testing.T) {
	log := &logged{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	b := newBenchWith(t, claimed)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "root@pam")
	secrets := map[string]string{"password": sim.DefaultPassword, "wrong password": "not-her-password", "second wrong password": "neither-is-this"}
	code := b.signInTwice(t, b.browser(t), host)
	note := func(when string) {
		t.Helper()
		ticket := b.sessionTicket(t, browser)
		_, secrets["signature of the ticket "+when], _ = strings.Cut(ticket.Value, "::")
		secrets["CSRF token "+when], secrets["token "+when] = ticket.CSRF, browser.token()
	}
	note("at first")

	in := input(host, "alice@pve")
	in["password"] = secrets["wrong password"]
	if r := b.browser(t).json("/api/auth/login", in); r.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a wrong password: %d %s", r.StatusCode, r.body)
	}
	for _, body := range []string{
		`{"password":"neither-is-this","passwort":1}`, `{"password":"neither-is-this"`, `{"password":["neither-is-this"]}`, `["neither-is-this"]`,
	} {
		b.browser(t).do("POST", "/api/auth/login", "application/json", body)
		b.browser(t).do("POST", "/login", "application/x-www-form-urlencoded", body)
		b.browser(t).do("POST", "/api/auth/tfa", "application/json", strings.ReplaceAll(body, "password", "code"))
	}
	look := func(where, text string) {
		t.Helper()
		for what, secret := range secrets {
			if len(secret) < 6 {
				t.Fatalf("the %s is %q", what, secret)
			}
			if strings.Contains(text, secret) {
				t.Errorf("%s holds the %s", where, what)
			}
		}
	}
	asked := 0
	ask := func() {
		for _, route := range b.Routes() {
			if route.Method != http.MethodGet || route.Access() == web.Public {
				continue
			}
			path := concrete(route)
			if strings.Contains(route.Path, "/sessions/{id}") {
				path = strings.ReplaceAll(route.Path, "{id}", browser.sessionID())
			}
			r := browser.get(path)
			asked++
			look(route.Pattern(), r.body)
			for name, values := range r.Header {
				look(route.Pattern()+" in its header "+name, strings.Join(values, "\n"))
			}
		}
	}
	ask()
	b.advance(61 * time.Minute) // the ticket is renewed at its next use
	ask()
	note("renewed")
	ask()
	host.SetFault("", "/", sim.Fault{WrongJSON: true})
	b.advance(3 * time.Second)
	ask()
	host.Close()
	b.advance(time.Minute)
	ask()
	if asked < 40 {
		t.Errorf("only %d requests were looked at", asked)
	}
	text := log.text()
	if !strings.Contains(text, "sign-in failed") {
		t.Error("the log was not recorded")
	}
	look("the log", text)
	if regexp.MustCompile(`\b` + code + `\b`).MatchString(text) { // figures of other things may hold the same digits
		t.Errorf("the log holds the code %s", code)
	}
}
