package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"

	"berth/internal/pve/sim"
	"berth/internal/testneed"
)

// singleSignOn is a Berth that people reach by a public URL, and a host that it may sign in with. The host's realm sso has
// an identity provider that knows grace and heidi; only grace has an account.
func singleSignOn(t testing.TB) (*berth, *sim.Host, *sim.IdentityProvider) {
	t.Helper()
	// The provider has to know the address before Berth has it.
	address := testneed.FreeAddress(t)
	dc, host := proxmox(t, sim.Options{})
	provider := withProvider(t, dc)
	provider.AllowRedirect("http://" + address + "/login/openid")
	b := serveAt(t, address, "--public-url", "http://"+address, "--login-hosts", host.Address())
	t.Cleanup(func() {
		for _, secret := range []string{"csrf_token", "code=", "state="} {
			if strings.Contains(b.log.String(), secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	})
	return b, host, provider
}

// withProvider gives a datacenter the realm sso.
func withProvider(t testing.TB, dc *sim.Datacenter) *sim.IdentityProvider {
	t.Helper()
	provider, err := sim.ListenProvider("127.0.0.1:0", nil, "grace", "heidi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := provider.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, err := range []error{
		dc.AddRealm(sim.Realm{Name: "sso", Type: "openid", Comment: "Lab account", Provider: provider}),
		dc.AddUser(sim.User{ID: "grace@sso"}),
		dc.Grant(sim.ACL{Path: "/vms/103", User: "grace@sso", Role: "PVEVMUser"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return provider
}

// knowHost signs in at a host with a password and out again, so that it is known from then on.
func (p *page) knowHost(host *sim.Host) {
	p.Helper()
	p.expect("POST /login 409")
	p.goTo("/login")
	p.signIn(host, "alice", "pve")
	p.signOut()
}

// trustAll lets the tab open sites whose certificates it has no reason to trust, as the identity provider's.
func (p *page) trustAll() {
	p.Helper()
	call(p, func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
		return err
	})
}

// hostTyped fills in where the host is, and leaves the fields.
func (p *page) hostTyped(host *sim.Host) {
	p.Helper()
	name, port := split(p, host)
	p.fill("host", name)
	p.fill("port", port)
	p.do(chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`))
}

const provides = `document.querySelector("a[data-provider]")`

// atProvider follows the link to the identity provider and presses a button there.
func (p *page) atProvider(provider *sim.IdentityProvider, button string) {
	p.Helper()
	p.until("the way to the provider", provides)
	if got := p.text("a[data-provider]"); got != "Continue at "+provider.Address() {
		p.Errorf("the link says %q", got)
	}
	p.click("a[data-provider]")
	p.until("at the provider", `document.title === "Identity provider"`)
	if referrer := eval[string](p, "document.referrer"); referrer != "" {
		p.Errorf("the provider learns where the visitor comes from: %q", referrer)
	}
	p.click(button)
}

const (
	asGrace = "button[value=grace]"
	asHeidi = "button[value=heidi]"
	cancel  = "button[name=cancel]"
)

func TestOpenID(t *testing.T) {
	t.Parallel()
	b, host, provider := singleSignOn(t)
	p := open(t, b)
	p.trustAll()
	p.knowHost(host)

	// Choosing the realm leaves only what it asks for.
	p.goTo("/login?next=%2F%3Fq%3Dadguard")
	if got := p.text(submit); got != "Sign in" {
		t.Errorf("the button says %q", got)
	}
	p.choose("realm", "sso")
	p.until("no password is asked for", `["password", "username"].every((name) => !document.querySelector("[name=" + name + "]").checkVisibility({ visibilityProperty: true }))`)
	if got := p.text(submit); got != "Continue with sso" {
		t.Errorf("the button says %q", got)
	}
	p.click(submit)
	p.atProvider(provider, asGrace)
	p.untilPath("/?q=adguard")
	p.untilRows("103")
	p.until("grace's name", `document.body.innerText.includes("grace@sso")`)
	if p.sessionToken() == "" {
		t.Error("there is no session cookie")
	}

	// The way back is in no history: behind the list is the provider's page again.
	p.do(chromedp.Evaluate[chromedp.Void](`history.back()`))
	p.until("back at the provider", `document.title === "Identity provider"`)
	p.goTo("/")
	p.untilSignedIn()

	// Somebody whom the provider knows and Proxmox does not; and somebody who changed their mind.
	p.signOut()
	p.expect("POST /login/openid 401")
	p.click(submit) // the realm is remembered
	p.atProvider(provider, asHeidi)
	p.untilRefused()
	p.click(submit)
	p.atProvider(provider, cancel)
	p.until("a word about it", `document.body.innerText.includes("without signing you in")`)
	if p.sessionToken() != "" {
		t.Error("there is a session cookie")
	}
}

// The realms follow the host that is typed.
func TestRealmsFollowTheHost(t *testing.T) {
	t.Parallel()
	b, host, provider := singleSignOn(t)
	open(t, b).knowHost(host)
	p := open(t, b)
	p.trustAll()
	p.goTo("/login")
	names := func() []string {
		return eval[[]string](p, `[...document.querySelector("#realm").options].map((o) => o.value)`)
	}
	if got := names(); !slices.Equal(got, []string{"pam", "pve"}) {
		t.Errorf("before a host is typed: %v", got)
	}
	p.hostTyped(host)
	p.until("the realms of the host", `document.querySelector("#realm [value=sso]")`)
	if got := names(); !slices.Equal(got, []string{"campus", "corp", "pam", "pve", "sso"}) {
		t.Errorf("realms: %v", got)
	}
	if got := p.value("realm"); got != "pam" {
		t.Errorf("%q is chosen", got)
	}
	p.choose("realm", "sso")
	p.fill("port", "1")
	p.do(chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`))
	p.until("the realms of every host", `!document.querySelector("#realm [value=sso]")`)
	p.hostTyped(host)
	p.until("the realms of the host again", `document.querySelector("#realm [value=sso]")`)
	p.choose("realm", "sso")
	p.click(submit)
	p.atProvider(provider, asGrace)
	p.untilRows("103")
}

func TestOpenIDWithoutScripts(t *testing.T) {
	t.Parallel()
	b, host, provider := singleSignOn(t)
	open(t, b).knowHost(host)
	p := open(t, b)
	p.trustAll()
	p.withoutScripts()
	p.goTo("/login")
	// The list knows pam and pve only, but the whole user id says it all.
	name, port := split(t, host)
	p.fill("host", name)
	p.fill("port", port)
	p.fill("username", "grace@sso")
	p.click(submit)
	p.atProvider(provider, asGrace)
	p.until("the button that a script would press", `document.querySelector("form[data-send]")`)
	p.click(submit)
	p.untilRows("103")
}

func TestLookOpenID(t *testing.T) {
	t.Parallel()
	dc, host := proxmox(t, sim.Options{})
	withProvider(t, dc)
	withoutURL := open(t, inProcess(t, &clock{}, host))
	withoutURL.look(t, "login-realm-unavailable", true, func(p *page) {
		p.goTo("/login")
		p.hostTyped(host)
		p.until("the realms of the host", `document.querySelector("#realm [value=sso]:disabled")`)
	})

	b, host, _ := singleSignOn(t)
	p := open(t, b)
	p.knowHost(host)
	p.look(t, "login-realm-openid", true, func(p *page) {
		p.goTo("/login")
		p.choose("realm", "sso")
	})
	p.look(t, "login-provider", true, func(p *page) {
		p.goTo("/login")
		p.choose("realm", "sso")
		p.send("a[data-provider]")
	})
	p.look(t, "openid-nothing", true, func(p *page) { p.goTo("/login/openid") })
}
