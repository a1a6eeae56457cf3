package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"berth/internal/pve/sim"
)

// status is the answer to a request that carries a session's token, redirects not followed.
func status(t testing.TB, url, token string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.AddCookie(&http.Cookie{Name: "lxc-session", Value: token})
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	return answer.StatusCode
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, serve(t))
	p.expect("POST /login 409")
	p.goTo("/login")
	p.signIn(host, "alice", "pve")
	p.goTo("/?q=nextcloud")
	p.untilRows("101")
	token := p.sessionToken()
	if got := status(t, p.base+"/api/containers", token); got != http.StatusOK {
		t.Fatalf("the session's own token: %d", got)
	}

	p.signOut()
	if p.sessionToken() != "" {
		t.Error("the cookie is still there")
	}
	if got := status(t, p.base+"/api/containers", token); got != http.StatusUnauthorized {
		t.Errorf("the API answers the old token with %d", got)
	}
	if got := status(t, p.base+"/", token); got != http.StatusSeeOther {
		t.Errorf("the dashboard answers the old token with %d", got)
	}

	// Neither a cache nor a page kept alive in memory may bring the list back.
	p.do(chromedp.Evaluate[chromedp.Void](`history.back()`))
	p.until("the sign-in page", `location.pathname === "/login" && location.search !== "?signed-out" && document.querySelector("#signin")`)
	if seen := p.text("body"); eval[bool](p, `document.body.innerText.includes("nextcloud")`) {
		t.Errorf("the Back button shows what only a signed-in user may see: %s", seen)
	}
}

// A session ends while its page is open: the page says so, and the sign-in comes back to it.
func TestExpiryOnPage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(t *testing.T, c *clock, dc *sim.Datacenter)
	}{
		{"idle for too long", func(_ *testing.T, c *clock, _ *sim.Datacenter) { c.advance(2*time.Hour + time.Minute) }},
		{"disabled in Proxmox VE", func(t *testing.T, c *clock, dc *sim.Datacenter) {
			c.advance(time.Minute) // past what was read last
			if err := dc.DisableUser("alice@pve"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := &clock{}
			dc, host := proxmox(t, sim.Options{Now: now.now})
			p := open(t, inProcess(t, now, host))
			p.goTo("/login")
			p.signIn(host, "alice", "pve")
			p.goTo("/?q=nextcloud&status=running")
			p.untilRows("101")

			c.end(t, now, dc)
			p.allowSessionEnd()
			p.later(time.Minute)
			p.until("a word about it", `document.querySelector("dialog[open]")`)
			if got := p.text("dialog[open] h2"); got != "You have been signed out" {
				t.Errorf("the page says %q", got)
			}
			p.click("dialog[open] a")
			p.untilPath("/login?next=%2F%3Fq%3Dnextcloud%26status%3Drunning")
			p.fill("username", "root")
			p.fill("password", sim.DefaultPassword)
			p.choose("realm", "pam")
			p.click(submit)
			p.untilPath("/?q=nextcloud&status=running")
			p.untilRows("101")
		})
	}
}

// Another site can send a visitor's browser here, but not do anything in their name.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	elsewhere := otherSite(t, b.url+"/logout")
	p := open(t, b)
	p.goTo("/login")
	p.signIn(host, "alice", "pve")

	p.expect("POST /logout 403")
	p.do(chromedp.Navigate(elsewhere), chromedp.Click(chromedp.CSS("button")))
	p.until("the refusal", `document.title.includes("Berth")`)
	if got := p.text("h1"); got != "Not allowed" {
		t.Errorf("the page says %q", got)
	}
	p.goTo("/")
	p.untilRows("101", "102")
}
