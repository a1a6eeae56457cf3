package e2e

import (
	"net"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// settle waits until a form was answered with a page that shows something.
func (p *page) submits(form, what, expression string) {
	p.Helper()
	p.click(form + ` button[type=submit]`)
	p.until(what, `document.readyState === "complete" && `+expression)
}

const nodeForm = `form[action*="/settings/nodes/"][novalidate]`

// atNodes signs in with a clock of Berth's that the test moves.
func atNodes(t *testing.T) (*page, *clock) {
	t.Helper()
	now := &clock{}
	_, host := proxmox(t, sim.Options{})
	p := open(t, inProcess(t, now, host))
	p.goTo("/login")
	p.signIn(host, "root", "pam")
	return p, now
}

// saves submits the form of a node that is to be saved.
func (p *page) saves() {
	p.Helper()
	p.submits(nodeForm, "the list with the node", `location.search.includes("done=saved") && document.querySelector("[role=status]")`)
}

func (p *page) nodeRow(name string) string {
	p.Helper()
	return eval[string](p, `[...document.querySelectorAll(".nodes tbody tr")].find((row) => row.querySelector(".name").textContent === `+quote(name)+`)?.innerText ?? ""`)
}

// fillHost fills in where a node is.
func (p *page) fillHost(host *sim.Host) {
	p.Helper()
	name, port, err := net.SplitHostPort(host.Address())
	if err != nil {
		p.Fatal(err)
	}
	p.fill("host", name)
	p.fill("port", port)
}

// openNode opens the page of a node.
func (p *page) openNode(name string) {
	p.Helper()
	p.goTo("/settings/nodes")
	path := eval[string](p, `[...document.querySelectorAll(".nodes tbody tr")].find((row) => row.querySelector(".name").textContent === `+quote(name)+`).querySelector("a").pathname`)
	p.goTo(path)
}

// Each kind of node is added, wrong ones are refused with the reason and what was typed, one becomes the default, and all go.
func TestNodes(t *testing.T) {
	t.Parallel()
	for _, scripts := range []bool{true, false} {
		name := "with scripts"
		if !scripts {
			name = "without scripts"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, now := atNodes(t)
			if !scripts {
				p.withoutScripts()
			}
			dc, far := proxmox(t, sim.Options{Members: []string{"far"}})
			secret, err := dc.AddToken("root@pam", "pasted", false, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			p.expect("POST /settings/nodes/add 409")
			p.expect("POST /settings/nodes/add 422")
			p.goTo("/settings/nodes")
			if row := p.nodeRow("127.0.0.1"); !strings.Contains(row, "default") || !strings.Contains(row, "your sign-in") || !strings.Contains(row, "works") {
				t.Errorf("the first node: %q", row)
			}

			p.goTo("/settings/nodes/add?kind=token")
			p.fill("name", "shed")
			p.fillHost(far)
			p.fill("tokenId", "root@pam")
			p.fill("tokenSecret", secret)
			p.submits(nodeForm, "the field's error", `document.getElementById("tokenId-error")`)
			if p.value("name") != "shed" || p.value("tokenId") != "root@pam" || p.value("tokenSecret") != "" {
				t.Errorf("shown again: %q, %q, secret %q", p.value("name"), p.value("tokenId"), p.value("tokenSecret"))
			}
			p.fill("tokenId", "root@pam!pasted")
			p.fill("tokenSecret", secret)
			p.submits(nodeForm, "the fingerprint", `document.querySelector("[name=fingerprint]")`)
			if shown := p.value("fingerprint"); shown != far.Fingerprint() {
				t.Errorf("fingerprint %s, want %s", shown, far.Fingerprint())
			}
			p.fill("tokenSecret", "00000000-0000-4000-8000-000000000000")
			p.submits(nodeForm, "the refusal", `document.querySelector("[role=alert]")?.textContent.includes("does not accept the token")`)
			p.fill("tokenSecret", secret)
			p.saves()
			if row := p.nodeRow("shed"); !strings.Contains(row, "root@pam!pasted") || !strings.Contains(row, "everything, for all containers") {
				t.Errorf("the pasted token's node: %q", row)
			}

			now.advance(time.Minute)
			p.goTo("/settings/nodes/add")
			p.fill("name", "bob's")
			p.fillHost(far)
			p.fill("username", "bob")
			p.fill("realm", "pve")
			p.fill("password", sim.DefaultPassword)
			p.submits(nodeForm, "the fingerprint", `document.querySelector("[name=fingerprint]")`)
			p.fill("password", sim.DefaultPassword)
			p.submits(nodeForm, "the question", `document.querySelector("[name=code]")`)
			p.fill("code", "000000")
			p.submits(nodeForm, "the refusal", `document.getElementById("code-error")`)
			p.fill("code", sim.TOTP(sim.DefaultTOTPSecret, time.Now()))
			p.saves()
			if row := p.nodeRow("bob's"); !strings.Contains(row, "bob@pve!berth-") || !strings.Contains(row, "leads where shed does") {
				t.Errorf("the node that was signed in to: %q", row)
			}

			p.goTo("/settings/nodes/add?kind=own")
			p.fill("name", "scripts")
			p.saves()
			if row := p.nodeRow("scripts"); !strings.Contains(row, "root@pam!berth-") || !strings.Contains(row, "leads where 127.0.0.1 does") {
				t.Errorf("the node with a token by the sign-in: %q", row)
			}

			now.advance(time.Minute)
			p.openNode("shed")
			p.submits(`form[action$="/test"]`, "the result", `document.querySelector("[role=status]")?.textContent.includes("The connection works")`)
			p.submits(`form[action$="/default"]`, "the list", `location.search.includes("done=default")`)
			if row := p.nodeRow("shed"); !strings.Contains(row, "default") || strings.Contains(p.nodeRow("127.0.0.1"), "default") {
				t.Errorf("the default: %q and %q", row, p.nodeRow("127.0.0.1"))
			}
			p.openNode("bob's")
			p.click(`a[href$="/remove"]`)
			p.until("the question", `document.querySelector(".btn-danger")`)
			p.submits(`form[action$="/remove"]`, "the list", `location.search.includes("done=left-over")`)
			p.click(`a[href*="/left-over/"]`)
			p.until("the ways", `document.querySelector("[name=password]")`)
			p.fill("password", sim.DefaultPassword)
			p.submits(`form[action$="/remove"]`, "the question", `document.querySelector("[name=code]")`)
			p.click(`input[value=recovery] + span`)
			p.fill("code", sim.DefaultRecoveryCodes()[0])
			p.submits(`form[action$="/remove"]`, "the list", `location.search.includes("done=token")`)
			for _, name := range []string{"shed", "scripts", "127.0.0.1"} {
				p.openNode(name)
				p.click(`a[href$="/remove"]`)
				p.until("the question", `document.querySelector(".btn-danger")`)
				p.submits(`form[action$="/remove"]`, "the list", `location.search.includes("done=removed")`)
			}
			p.until("the empty page", `document.body.innerText.includes("No nodes yet")`)
		})
	}
}

// TestLookAtNodes looks at the states of the pages of nodes that the navigation does not lead to.
func TestLookAtNodes(t *testing.T) {
	t.Parallel()
	p, now := atNodes(t)
	dc, far := proxmox(t, sim.Options{Members: []string{"far"}})
	if err := dc.AddUser(sim.User{ID: "carla@pve", Password: "x"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/vms/101", "/vms/102"} {
		if err := dc.Grant(sim.ACL{Path: path, User: "carla@pve", Role: "PVEVMUser"}); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := dc.AddToken("carla@pve", "dashboard", false, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	p.expect("POST /settings/nodes/add 409")
	p.expect("POST /settings/nodes/add 422")
	look := func(name string, load func(p *page)) {
		t.Run(name, func(t *testing.T) { p.in(t).look(t, name, true, load) })
	}
	for _, kind := range []string{"session", "signin", "token"} {
		look("node-add-"+kind, func(p *page) { p.goTo("/settings/nodes/add?kind=" + kind) })
	}
	fill := func(p *page) {
		now.advance(time.Minute)
		p.goTo("/settings/nodes/add?kind=token")
		p.fill("name", "attic")
		p.fillHost(far)
		p.fill("tokenId", "carla@pve!dashboard")
		p.fill("tokenSecret", secret)
	}
	look("node-errors", func(p *page) {
		fill(p)
		p.fill("tokenSecret", "no uuid")
		p.submits(nodeForm, "the error", `document.getElementById("tokenSecret-error")`)
	})
	look("node-confirm", func(p *page) {
		fill(p)
		p.submits(nodeForm, "the fingerprint", `document.querySelector("[name=fingerprint]")`)
	})
	look("node-second-factor", func(p *page) {
		now.advance(time.Minute)
		p.goTo("/settings/nodes/add?kind=signin")
		p.fillHost(far)
		p.fill("username", "bob@pve")
		p.fill("password", sim.DefaultPassword)
		p.submits(nodeForm, "the fingerprint", `document.querySelector("[name=fingerprint]")`)
		p.fill("password", sim.DefaultPassword)
		p.submits(nodeForm, "the question", `document.querySelector("[name=code]")`)
	})
	fill(p)
	p.submits(nodeForm, "the fingerprint", `document.querySelector("[name=fingerprint]")`)
	p.fill("tokenSecret", secret)
	p.saves()
	p.goTo("/settings/nodes/add?kind=signin")
	p.fill("name", "cellar")
	p.fillHost(far)
	p.fill("username", "root")
	p.fill("password", sim.DefaultPassword)
	p.submits(nodeForm, "the fingerprint", `document.querySelector("[name=fingerprint]")`)
	p.fill("password", sim.DefaultPassword)
	p.saves()
	look("node-open", func(p *page) { p.openNode("attic") })
	look("node-remove", func(p *page) {
		p.openNode("cellar")
		p.click(`a[href$="/remove"]`)
		p.until("the question", `document.querySelector(".btn-danger")`)
	})
	p.openNode("cellar")
	p.click(`a[href$="/remove"]`)
	p.until("the question", `document.querySelector(".btn-danger")`)
	p.submits(`form[action$="/remove"]`, "the list", `location.search.includes("done=left-over")`)
	look("node-left-over", func(p *page) {
		p.goTo("/settings/nodes")
		p.click(`a[href*="/left-over/"]`)
		p.until("the ways", `document.querySelector("[name=password]")`)
	})
	before := far.Fingerprint()
	if err := far.ChangeCertificate(false); err != nil {
		t.Fatal(err)
	}
	// As at a host that starts its proxy anew, which ends what was connected under the certificate before.
	far.SetFault("", "", sim.Fault{Refuse: true})
	p.goTo("/")
	p.until("a banner", `document.querySelector(".banner")`)
	far.ClearFaults()
	now.advance(time.Minute)
	p.until("the banner", `document.querySelector(".banner")?.innerText.includes("certificate")`)
	look("fleet-certificate-changed", func(p *page) { p.goTo("/") })
	look("node-certificate-changed", func(p *page) {
		now.advance(time.Minute)
		p.openNode("attic")
		p.goTo(eval[string](p, `location.pathname`) + "?kind=token")
		p.fill("tokenSecret", secret)
		p.expect("POST " + eval[string](p, `location.pathname`) + " 409")
		p.submits(nodeForm, "the question", `document.querySelector("[name=fingerprint]")`)
		shown := eval[string](p, `[...document.querySelectorAll("main figure")].map((f) => f.innerText.replace(/\s+/g, ":")).join()`)
		for _, fingerprint := range []string{before, far.Fingerprint()} {
			if !strings.Contains(shown, fingerprint) {
				p.Errorf("the page does not show %s: %s", fingerprint, shown)
			}
		}
	})
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	now.advance(2 * time.Minute)
	look("nodes-one-down", func(p *page) { p.goTo("/settings/nodes") })
}
