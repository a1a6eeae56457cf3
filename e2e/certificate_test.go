package e2e

import (
	"strings"
	"testing"

	"berth/internal/pve/sim"
)

// fingerprints are the fingerprints on the page, as they would be compared.
func (p *page) fingerprints() []string {
	p.Helper()
	return eval[[]string](p, `[...document.querySelectorAll("#signin figure")].map((f) => {
		const caption = f.querySelector("figcaption");
		return f.innerText.replace(caption.innerText, "").replace(/\s+/g, ":").replace(/:+/g, ":").replace(/^:|:$/g, "");
	})`)
}

func TestUnknownCertificate(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, serve(t))
	p.expect("POST /login 409")
	p.goTo("/login")
	p.fillSignIn(host, "alice", "pve", sim.DefaultPassword)
	p.click(submit)
	p.until("the fingerprint", `document.querySelector(`+quote(confirming)+`)`)
	if got := p.fingerprints(); len(got) != 1 || got[0] != host.Fingerprint() {
		t.Errorf("the page shows %v, the host's certificate has the fingerprint %s", got, host.Fingerprint())
	}
	if !strings.Contains(p.text("#signin"), host.Address()) {
		t.Errorf("the page does not name %s", host.Address())
	}
	if n := len(host.Requests()); n != 0 {
		t.Errorf("%d requests reached the host before its certificate was confirmed", n)
	}
	if eval[bool](p, `(document.documentElement.outerHTML + [...document.querySelectorAll("input")].map((i) => i.value)
		+ JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + location.href).includes(`+quote(sim.DefaultPassword)+`)`) {
		t.Error("the password is in the page or in its storage")
	}

	// Thinking better of it leaves nothing behind.
	p.click(`#signin a[href="/login"]`)
	p.untilPath("/login")
	p.fillSignIn(host, "alice", "pve", sim.DefaultPassword)
	p.click(submit)
	p.until("the fingerprint again", `document.querySelector(`+quote(confirming)+`)`)
	p.until("no password to type again", `!document.querySelector("#signin [name=password]").checkVisibility()`)
	p.click(submit)
	p.untilSignedIn()
	p.untilRows("101", "102")

	// From here on the host is known, to everybody.
	p.signOut()
	p.fill("username", "root")
	p.fill("password", sim.DefaultPassword)
	p.choose("realm", "pam")
	p.click(submit)
	p.untilPath("/")
	p.untilSignedIn()
}

func TestChangedCertificate(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	known := host.Fingerprint()
	if err := host.ChangeCertificate(false); err != nil {
		t.Fatal(err)
	}
	if known == host.Fingerprint() {
		t.Fatal("the certificate did not change")
	}
	before := len(host.Requests())
	p := open(t, b)
	p.expect("POST /login 401")
	p.goTo("/login")
	p.fillSignIn(host, "alice", "pve", sim.DefaultPassword)
	p.click(submit)
	p.until("a refusal", `document.querySelector("#signin [role=alert]")`)
	if got := p.fingerprints(); len(got) != 2 || got[0] != known || got[1] != host.Fingerprint() {
		t.Errorf("the page shows %v, want %s and %s", got, known, host.Fingerprint())
	}
	if eval[bool](p, `!!document.querySelector("#signin [name=fingerprint], #signin button[type=submit]")`) {
		t.Error("a visitor can confirm a certificate that changed")
	}
	if id := p.text("#signin code"); !errorIDs.MatchString(id) {
		t.Errorf("the refusal shows the error id %q", id)
	}
	if n := len(host.Requests()); n != before {
		t.Errorf("%d requests reached a host that nobody vouches for", n-before)
	}
}

// A certificate that was renewed with its old key is the host's own.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	if err := host.ChangeCertificate(true); err != nil {
		t.Fatal(err)
	}
	p := open(t, b)
	p.goTo("/login")
	p.signIn(host, "alice", "pve")
	p.untilRows("101", "102")
}
