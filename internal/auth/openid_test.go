package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/pve"
)

func TestReadProviderLink(t *testing.T) {
	for text, want := range map[string]string{ // to the provider's name, or "" where it is refused
		"https://idp.example.org/authorize?state=s":                   "idp.example.org",
		"HTTPS://IDP.example.org:443/?state=s":                        "idp.example.org",
		"https://idp.example.org:8443/a/b?x=1&state=%7B%22a%22%7D":    "idp.example.org:8443",
		"https://192.0.2.1/?state=s":                                  "192.0.2.1",
		"https://[2001:db8::1]:9000/?state=s":                         "[2001:db8::1]:9000",
		"https://xn--bcher-kva.example/?state=s":                      "xn--bcher-kva.example",
		"http://idp.example.org/?state=s":                             "",
		"javascript:alert(1)?state=s":                                 "",
		"https://user@idp.example.org/?state=s":                       "",
		"https://idp.example.org/?state=s#fragment":                   "",
		"https://idp.example.org/":                                    "",
		"https://idp.example.org/?state=":                             "",
		"https://idp.example.org/?state=a&state=b":                    "",
		"https://idp.example.org/?state=%zz":                          "",
		"https://idp.example.org/?state=" + strings.Repeat("s", 1025): "",
		"https://idp..example.org/?state=s":                           "",
		"https://idp.example.org:0/?state=s":                          "",
		"https://idp.example.org:99999/?state=s":                      "",
		`https://idp.example.org\.evil.example/?state=s`:              "",
		"https:idp.example.org/?state=s":                              "",
		"//idp.example.org/?state=s":                                  "",
		"/?state=s":                                                   "",
		"":                                                            "",
	} {
		got, err := readProviderLink(text)
		if (want == "") != (err != nil) || got.provider != want {
			t.Errorf("%q: %q, %v; want %q", text, got.provider, err, want)
		}
		if err != nil && (got != (providerLink{}) || !errors.Is(err, errProviderLink) || strings.Contains(err.Error(), "state=")) {
			t.Errorf("%q: %v with %v", text, err, got)
		}
	}
}

// Whatever a host names, a browser reads the link as the page that shows its host's name does.
func FuzzReadProviderLink(f *testing.F) {
	for _, seed := range []string{
		"https://idp.example.org/authorize?state=%7B%7D&x=1", "https://[::1]:8443/?state=s", "https://a@b/?state=s", `https:\\a/?state=s`,
		"https://a.example:443?state=s", "javascript:alert(1)//?state=s", "https://a%2eb/?state=s", "https://a/%2f%2fb?state=s",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readProviderLink(text)
		if err != nil {
			return
		}
		if !strings.HasPrefix(got.link, "https://"+got.provider) || strings.ContainsAny(got.link, "\\\"'<>` \t\r\n") {
			t.Fatalf("%q became %q at %q", text, got.link, got.provider)
		}
		if rest := strings.TrimPrefix(got.link, "https://"+got.provider); rest[0] != '/' && rest[0] != '?' {
			t.Fatalf("%q became %q at %q", text, got.link, got.provider)
		}
		u, err := url.Parse(got.link)
		if err != nil || u.Host != got.provider || u.User != nil || u.Scheme != "https" || u.Query().Get("state") != got.state || got.state == "" {
			t.Fatalf("%q became %q: %v", text, got.link, err)
		}
		if again, err := readProviderLink(got.link); err != nil || again != got {
			t.Fatalf("%q became %q, which becomes %v, %v", text, got.link, again, err)
		}
	})
}

func key(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

func TestMemoryOpenID(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	m := NewMemoryOpenID(func() time.Time { return now })
	keep := func(state, network string) {
		t.Helper()
		a := OpenIDAttempt{Realm: state, Browser: key("browser"), Network: network}
		if err := m.KeepOpenID(t.Context(), key(state), a, now.Add(OpenIDLife)); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Millisecond)
	}
	there := func(state string) bool {
		a, err := m.TakeOpenID(t.Context(), key(state), key("browser"))
		if err != nil && !errors.Is(err, ErrNoAttempt) || err == nil && a.Realm != state {
			t.Fatalf("%s: %v, %v", state, a, err)
		}
		return err == nil
	}

	keep("once", "n")
	if _, err := m.TakeOpenID(t.Context(), key("once"), key("another")); !errors.Is(err, ErrNoAttempt) {
		t.Errorf("another browser: %v", err)
	}
	if !there("once") || there("once") {
		t.Error("an attempt is taken once")
	}
	keep("late", "n")
	now = now.Add(OpenIDLife)
	if there("late") {
		t.Error("an attempt whose time has passed")
	}

	// One network pushes out its own, the oldest first, and many push out the oldest of all.
	keep("mine", "home")
	for i := range 20 {
		keep(fmt.Sprint("flood", i), "elsewhere")
	}
	if !there("mine") || there("flood11") || !there("flood12") || !there("flood19") {
		t.Error("a network pushes out others than its own oldest")
	}
	m.most = 200
	keep("oldest", "home")
	for i := range m.most + 100 {
		keep(fmt.Sprint("many", i), fmt.Sprint("network", i/4))
	}
	if len(m.kept) > m.most || there("oldest") || there("many99") || !there("many100") || !there("many299") {
		t.Errorf("%d are kept", len(m.kept))
	}
}

// Of many at once with the same state, one gets it.
func TestMemoryOpenIDRace(t *testing.T) {
	m := NewMemoryOpenID(time.Now)
	if err := m.KeepOpenID(t.Context(), key("s"), OpenIDAttempt{Browser: key("b")}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := 0
	for range 50 {
		wg.Go(func() {
			if _, err := m.TakeOpenID(t.Context(), key("s"), key("b")); err == nil {
				mu.Lock()
				got++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got != 1 {
		t.Errorf("%d got it", got)
	}
}

func TestReadRealms(t *testing.T) {
	many := []pve.Domain{}
	for i := range 500 {
		many = append(many, pve.Domain{Realm: fmt.Sprintf("realm%03d", i), Type: "ldap"})
	}
	for name, c := range map[string]struct {
		domains []pve.Domain
		want    string
	}{
		"none":         {nil, ""},
		"as they come": {[]pve.Domain{{Realm: "pve", Type: "pve"}, {Realm: "pam", Type: "pam"}}, "pam* pve"},
		"a default":    {[]pve.Domain{{Realm: "pam", Type: "pam"}, {Realm: "corp", Type: "ldap", Default: true}}, "corp* pam"},
		"two defaults": {[]pve.Domain{{Realm: "b2", Default: true}, {Realm: "a1", Default: true}}, "a1 b2*"},
		"twice":        {[]pve.Domain{{Realm: "pam", Type: "pam"}, {Realm: "pam", Type: "openid"}}, "pam*"},
		"no names":     {[]pve.Domain{{Realm: ""}, {Realm: "a"}, {Realm: "1a"}, {Realm: "a b"}, {Realm: strings.Repeat("r", 33)}, {Realm: "a@b"}, {Realm: "ok"}}, "ok"},
		"without pam":  {[]pve.Domain{{Realm: "x1"}}, "x1"},
	} {
		got := []string{}
		for _, r := range readRealms(c.domains) {
			if r.Default {
				r.Name += "*"
			}
			got = append(got, r.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	if got := readRealms(many); len(got) != maxRealms {
		t.Errorf("%d of 500 realms are offered", len(got))
	}
}

func TestRealmCache(t *testing.T) {
	var c realmCache
	var mu sync.Mutex
	at := time.Unix(1_000_000, 0)
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	asked := 0
	ask := func(list []Realm, err error) func(context.Context) ([]Realm, error) {
		return func(context.Context) ([]Realm, error) { mu.Lock(); asked++; mu.Unlock(); return list, err }
	}
	one := []Realm{{Name: "pam"}}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := c.read(t.Context(), "a", now, ask(one, nil)); len(got) != 1 {
				t.Errorf("%v", got)
			}
		})
	}
	wg.Wait()
	if asked != 1 {
		t.Errorf("20 at once asked %d times", asked)
	}
	// A host that gives none is left alone for a while.
	asked = 0
	for range 5 {
		if got := c.read(t.Context(), "down", now, ask(nil, errors.New("down"))); got != nil {
			t.Errorf("%v", got)
		}
	}
	if asked != 1 {
		t.Errorf("a host that is down was asked %d times", asked)
	}
	mu.Lock()
	at = at.Add(realmsPause)
	mu.Unlock()
	if got := c.read(t.Context(), "down", now, ask(one, nil)); len(got) != 1 {
		t.Errorf("after the pause: %v", got)
	}
	for i := range 3 * maxRealmHosts {
		c.read(t.Context(), fmt.Sprint(i), now, ask(one, nil))
	}
	if len(c.hosts) > maxRealmHosts {
		t.Errorf("%d hosts are remembered", len(c.hosts))
	}
	// Nobody waits longer than they want to.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	block := make(chan struct{})
	defer close(block)
	if got := c.read(ctx, "slow", now, func(context.Context) ([]Realm, error) { <-block; return one, nil }); got != nil {
		t.Errorf("%v", got)
	}
}
