package e2e

import (
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"berth/internal/pve/sim"
)

// refusal is all that a refused visitor learns.
const refusal = "Invalid credentials or Proxmox host unreachable"

// submit is the button of the sign-in form in each of its steps.
const submit = "#signin button[type=submit]"

// confirming is the form that asks to compare a certificate's fingerprint.
const confirming = "#signin form:has([name=fingerprint])"

// split is the host and the port of a simulated host, as people type them.
func split(t testing.TB, host *sim.Host) (name, port string) {
	t.Helper()
	name, port, err := net.SplitHostPort(host.Address())
	if err != nil {
		t.Fatal(err)
	}
	return name, port
}

// fillSignIn fills in the sign-in form.
func (p *page) fillSignIn(host *sim.Host, user, realm, password string) {
	p.Helper()
	name, port := split(p, host)
	p.fill("host", name)
	p.fill("port", port)
	p.fill("username", user)
	p.fill("password", password)
	p.choose("realm", realm)
}

// signIn signs in from the sign-in page, where the browser is, confirming the host's certificate if that is asked for.
func (p *page) signIn(host *sim.Host, user, realm string) {
	p.Helper()
	p.fillSignIn(host, user, realm, sim.DefaultPassword)
	p.click(submit)
	p.until("past the first step", `document.querySelector("#containers") || document.querySelector(`+quote(confirming)+`)`)
	if eval[bool](p, `!!document.querySelector(`+quote(confirming)+`)`) {
		p.click(submit)
	}
	p.untilSignedIn()
}

func (p *page) untilSignedIn() {
	p.Helper()
	p.until("signed in", `document.readyState === "complete" && document.querySelector("#containers")`)
}

// ticketRequests counts how often a host was asked for a ticket.
func ticketRequests(host *sim.Host) int {
	n := 0
	for _, r := range host.Requests() {
		if r.Method == "POST" && strings.HasSuffix(r.Path, "/access/ticket") {
			n++
		}
	}
	return n
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, serve(t))
	p.expect("POST /login 409")
	p.goTo("/")
	p.untilPath("/login?next=%2F")
	p.signIn(host, "alice", "pve")
	p.untilPath("/")
	if got := p.rows(); !slices.Equal(got, []string{"101", "102"}) {
		t.Errorf("alice sees %v, but may see 101 and 102 only", got)
	}
	p.until("alice's name", `document.body.innerText.includes("alice@pve")`)
	if p.sessionToken() == "" {
		t.Error("there is no session cookie")
	}

	p.goTo("/login")
	p.untilPath("/")

	p.signOut()
	name, port := split(t, host)
	for field, want := range map[string]string{"host": name, "port": port, "username": "alice", "realm": "pve", "password": ""} {
		if got := p.value(field); got != want {
			t.Errorf("after signing out %s holds %q, want %q", field, got, want)
		}
	}
	if got := p.focused(); got != "password" {
		t.Errorf("the focus is at %s, and only the password is missing", got)
	}
}

// The demo's hosts are known and pinned, and its form is filled in: one step, one field.
func TestSignInDemo(t *testing.T) {
	t.Parallel()
	p := open(t, demo(t))
	p.goTo("/login")
	p.fill("username", "root")
	p.fill("password", sim.DefaultPassword)
	p.click(submit)
	p.untilPath("/")
	p.untilSignedIn()
	if got := p.rows(); len(got) < 10 {
		t.Errorf("root sees only %v", got)
	}
}

// An address as it is pasted and a user id as Proxmox VE shows it say more than the other fields.
func TestSignInPasted(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.fill("host", host.URL()+"/")
	p.fill("username", "alice@pve")
	p.fill("password", sim.DefaultPassword)
	p.choose("realm", "pam")
	p.click(submit)
	p.untilSignedIn()
	p.untilRows("101", "102")
}

var errorIDs = regexp.MustCompile(`^[a-z0-9]{8}$`)

// untilRefused waits for the refusal of a sign-in and returns the error id that it shows.
func (p *page) untilRefused() string {
	p.Helper()
	p.until("a refusal", `document.querySelector("#signin [role=alert]")`)
	said := eval[string](p, `document.querySelector("#signin [role=alert] p").textContent`)
	if said != refusal {
		p.Errorf("the refusal says %q, want %q", said, refusal)
	}
	id := p.text("#signin [role=alert] code")
	if !errorIDs.MatchString(id) {
		p.Errorf("the refusal shows the error id %q", id)
	}
	return id
}

func TestSignInRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		user, password string
		down           bool
	}{
		{name: "wrong password", user: "alice", password: "not-her-password"},
		{name: "no such user", user: "nobody", password: sim.DefaultPassword},
		{name: "disabled user", user: "carol", password: sim.DefaultPassword},
		{name: "nothing listens", user: "alice", password: sim.DefaultPassword, down: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, host := proxmox(t, sim.Options{})
			if c.down {
				host.SetFault("", "", sim.Fault{Refuse: true})
			}
			b := serve(t)
			p := open(t, b)
			p.expect("POST /login 401")
			p.goTo("/login")
			p.fillSignIn(host, c.user, "pve", c.password)
			began := time.Now()
			if !c.down {
				p.expect("POST /login 409")
				p.click(submit)
				p.until("the fingerprint", `document.querySelector(`+quote(confirming)+`)`)
				began = time.Now()
			}
			p.click(submit)
			id := p.untilRefused()
			if took := time.Since(began); took < 3500*time.Millisecond {
				t.Errorf("refused after %s: sooner than 3.5 s tells where the refusal came from", took)
			}
			if !strings.Contains(b.log.String(), id) {
				t.Errorf("the log has nothing under the error id %s", id)
			}
			name, port := split(t, host)
			for field, want := range map[string]string{"host": name, "port": port, "username": c.user, "realm": "pve", "password": ""} {
				if got := p.value(field); got != want {
					t.Errorf("after the refusal %s holds %q, want %q", field, got, want)
				}
			}
			if p.sessionToken() != "" {
				t.Error("a refused sign-in left a session cookie")
			}
		})
	}
}

// fieldErrors are the messages at fields, by the field's name, as assistive technology finds them.
func (p *page) fieldErrors() map[string]string {
	p.Helper()
	return eval[map[string]string](p, `Object.fromEntries([...document.querySelectorAll("#signin [aria-invalid=true]")].map((field) =>
		[field.name, field.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id).textContent).join(" ")]))`)
}

// TestSignInForm: what a newcomer finds on the sign-in page, by the labels of the fields.
func TestSignInForm(t *testing.T) {
	t.Parallel()
	p := open(t, serve(t))
	type control struct{ Kind, Value, Placeholder, Autocomplete, Choices string }
	for _, s := range screens[1:3] {
		p.lookAt(s)
		p.goTo("/login")
		got := eval[map[string]control](p, `Object.fromEntries([...document.querySelectorAll("#signin label")].map(({control, textContent}) => [textContent, {
			Kind: control.type, Value: control.value, Placeholder: control.placeholder ?? "", Autocomplete: control.autocomplete,
			Choices: [...control.options ?? []].map((o) => o.value + "=" + o.text).join(", "),
		}]))`)
		want := map[string]control{
			"Proxmox Host": {Kind: "text", Placeholder: "192.168.1.100 or pve.local"},
			"Port":         {Kind: "number", Value: "8006", Placeholder: "8006"},
			"Username":     {Kind: "text", Autocomplete: "username"},
			"Password":     {Kind: "password", Autocomplete: "current-password"},
			"Realm":        {Kind: "select-one", Value: "pam", Choices: "pam=pam · Linux PAM, pve=pve · Proxmox VE"},
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: fields %+v, want %+v", s.name, got, want)
		}
		// Host and port share a row, about 70 to 30.
		row := eval[[]float64](p, `["host", "port"].flatMap((id) => {
			const at = document.getElementById(id).getBoundingClientRect();
			return [at.top, at.width];
		})`)
		if share := row[1] / (row[1] + row[3]); row[0] != row[2] || share < 0.67 || share > 0.73 {
			t.Errorf("%s: host and port at %v and %v, the host with %.2f of their width", s.name, row[0], row[2], share)
		}
	}
}

func TestSignInFields(t *testing.T) {
	t.Parallel()
	const badPort = "Port must be a whole number from 1 to 65535"
	_, host := proxmox(t, sim.Options{})
	p := open(t, inProcess(t, &clock{}, host))
	p.expect("POST /login 422")
	name, port := split(t, host)
	type fields = map[string]string
	for _, c := range []struct {
		name  string
		typed fields
		want  fields
		focus string
	}{
		{
			name: "nothing typed", typed: fields{},
			want:  fields{"host": "Proxmox host is required", "username": "Username is required", "password": "Password is required"},
			focus: "host",
		},
		{
			name: "no user name", typed: fields{"host": name, "port": port, "password": sim.DefaultPassword},
			want: fields{"username": "Username is required"}, focus: "username",
		},
		{
			name: "no password", typed: fields{"host": name, "port": port, "username": "alice"},
			want: fields{"password": "Password is required"}, focus: "password",
		},
		{
			name: "no port", typed: fields{"host": name, "port": "", "username": "alice", "password": sim.DefaultPassword},
			want: fields{"port": badPort}, focus: "port",
		},
		{
			name: "port 0", typed: fields{"host": name, "port": "0", "username": "alice", "password": sim.DefaultPassword},
			want: fields{"port": badPort}, focus: "port",
		},
		{
			name: "port 65536", typed: fields{"host": name, "port": "65536", "username": "alice", "password": sim.DefaultPassword},
			want: fields{"port": badPort}, focus: "port",
		},
		{
			name: "port 1.5", typed: fields{"host": name, "port": "1.5", "username": "alice", "password": sim.DefaultPassword},
			want: fields{"port": badPort}, focus: "port",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := p.in(t)
			p.goTo("/login")
			for field, text := range c.typed {
				p.fill(field, text)
			}
			p.click(submit)
			p.until("errors at fields", `document.querySelector("#signin [aria-invalid=true]")`)
			got := p.fieldErrors()
			if len(got) != len(c.want) {
				t.Errorf("errors at fields: %v, want %v", got, c.want)
			}
			for field, want := range c.want {
				if got[field] != want {
					t.Errorf("%s: %q, want %q", field, got[field], want)
				}
			}
			p.until("the focus at "+c.focus, `document.activeElement.name === `+quote(c.focus))
			for field, text := range c.typed {
				if field == "password" {
					text = ""
				}
				if got := p.value(field); got != text {
					t.Errorf("%s holds %q after %q was typed", field, got, text)
				}
			}
		})
	}
	if n := ticketRequests(host); n != 0 {
		t.Errorf("the host was asked for %d tickets before the fields were right", n)
	}
}

// An impatient visitor presses twice.
func TestSignInOnce(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.fillSignIn(host, "alice", "pve", sim.DefaultPassword)
	host.SetFault("POST", "/access/ticket", sim.Fault{Latency: 5 * time.Second})
	p.press(kb.Enter + kb.Enter)
	p.until("a button that can't be pressed", `document.querySelector(`+quote(submit)+`).disabled`)
	if got := p.text(submit); got != "Signing in" {
		t.Errorf("while the sign-in is on its way its button says %q", got)
	}
	p.untilSignedIn()
	if n := ticketRequests(host); n != 1 {
		t.Errorf("the host was asked for %d tickets", n)
	}
}

func TestSignInByKeyboard(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, serve(t))
	p.expect("POST /login 409")
	p.goTo("/login")
	p.until("the focus at the first field", `document.activeElement.name === "host"`)
	name, port := split(t, host)
	p.press(name + kb.Tab)
	p.press(port + kb.Tab + "alice" + kb.Tab + sim.DefaultPassword + kb.Tab)
	if got := p.focused(); got != "realm" {
		t.Fatalf("behind the password comes %s", got)
	}
	p.press("Proxmox" + kb.Tab + kb.Enter)
	p.until("the fingerprint", `document.querySelector(`+quote(confirming)+`)`)
	// The focus is in what is new, and its button not far.
	p.until("the focus in the card", `document.querySelector("#signin").contains(document.activeElement)`)
	for steps := 0; !eval[bool](p, `document.activeElement.type === "submit"`); steps++ {
		if steps == 5 {
			t.Fatal("the button is more than five steps away")
		}
		p.press(kb.Tab)
	}
	p.press(kb.Enter)
	p.untilSignedIn()
	p.untilRows("101", "102")

	p.goTo("/")
	p.press(kb.Tab + kb.Enter)
	if got := p.focused(); got != "content" {
		t.Errorf("the first link of the page leads to %s, not to the content", got)
	}
}

func TestSignInWithoutScripts(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, serve(t))
	p.withoutScripts()
	p.expect("POST /login 422", "POST /login 409", "POST /login 401")

	p.goTo("/?q=jelly")
	p.untilPath("/login?next=%2F%3Fq%3Djelly")
	p.click(submit)
	p.until("errors at fields", `document.querySelector("#signin [aria-invalid=true]")`)
	if got := p.fieldErrors()["host"]; got != "Proxmox host is required" {
		t.Errorf("without scripts the host's error is %q", got)
	}

	p.fillSignIn(host, "alice", "pve", "not-her-password")
	p.click(submit)
	p.until("the fingerprint", `document.querySelector(`+quote(confirming)+`)`)
	if n := len(host.Requests()); n != 0 {
		t.Errorf("%d requests reached the host before its certificate was confirmed", n)
	}
	p.fill("password", "not-her-password")
	p.click(submit)
	p.untilRefused()

	// A refused sign-in pins nothing, so the question comes again.
	p.fill("password", sim.DefaultPassword)
	p.click(submit)
	p.until("the fingerprint", `document.querySelector(`+quote(confirming)+`)`)
	p.fill("password", sim.DefaultPassword)
	p.click(submit)
	p.untilPath("/?q=jelly")
	p.untilRows("102")

	p.fill("q", "nextcloud")
	p.press(kb.Enter)
	p.untilRows("101")
	p.signOut()
}
