package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"berth/internal/pve/sim"
)

// firstStep takes bob through the first step of his sign-in.
func (p *page) firstStep(host *sim.Host) {
	p.Helper()
	p.fillSignIn(host, "bob", "pve", sim.DefaultPassword)
	p.click(submit)
	p.until("the second step", `document.querySelector("#signin [name=code]")`)
}

// fixedAt is a clock that stands still at the first time from now on at which bob's code suits.
func fixedAt(t testing.TB, suits func(code string) bool) *clock {
	t.Helper()
	at := time.Now().Truncate(30 * time.Second)
	for range 1000 {
		if suits(sim.TOTP(sim.DefaultTOTPSecret, at)) {
			return &clock{fixed: at}
		}
		at = at.Add(30 * time.Second)
	}
	t.Fatal("no such code in the next hours")
	return nil
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	c := fixedAt(t, func(code string) bool { return strings.HasPrefix(code, "0") })
	_, host := proxmox(t, sim.Options{Now: c.now})
	p := open(t, inProcess(t, c, host))
	p.expect("POST /login/tfa 401", "POST /login/tfa 422")
	p.goTo("/login?next=%2F%3Fstatus%3Drunning")
	p.firstStep(host)
	p.until("the focus at the code", `document.activeElement.name === "code"`)
	if p.sessionToken() != "" {
		t.Error("half a sign-in has a session cookie")
	}
	if !strings.Contains(p.text("#signin"), "bob@pve") {
		t.Error("the second step does not say whose it is")
	}

	p.click(submit)
	p.until("an error at the code", `document.querySelector("#signin [name=code][aria-invalid=true]")`)
	if got := p.fieldErrors()["code"]; got != "Code is required" {
		t.Errorf("no code: %q", got)
	}

	code := sim.TOTP(sim.DefaultTOTPSecret, c.now())
	p.fill("code", strings.TrimLeft(code, "0"))
	p.press(kb.Enter)
	p.untilRefused()
	if p.sessionToken() != "" {
		t.Error("a wrong code led to a session cookie")
	}
	if p.value("code") != "" {
		t.Error("the wrong code is still in its field")
	}

	p.fill("code", code)
	p.press(kb.Enter)
	p.untilPath("/?status=running")
	p.untilSignedIn()
}

// Authenticator apps show codes in two groups.
func TestSecondFactorWithSpaces(t *testing.T) {
	t.Parallel()
	c := fixedAt(t, func(string) bool { return true })
	_, host := proxmox(t, sim.Options{Now: c.now})
	p := open(t, inProcess(t, c, host))
	p.goTo("/login")
	p.firstStep(host)
	code := sim.TOTP(sim.DefaultTOTPSecret, c.now())
	p.fill("code", code[:3]+" "+code[3:])
	p.click(submit)
	p.untilPath("/")
}

func TestRecoveryCode(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	code := sim.DefaultRecoveryCodes()[3]
	for _, c := range []struct {
		name  string
		works bool
	}{{"first use", true}, {"second use", false}} {
		t.Run(c.name, func(t *testing.T) {
			p := open(t, b)
			p.goTo("/login")
			p.firstStep(host)
			p.click(`#signin label:has([name=kind][value=recovery])`)
			p.until("the focus at the code", `document.activeElement.name === "code"`)
			if mode := eval[string](p, `document.activeElement.inputMode`); mode != "text" {
				t.Errorf("the keyboard for a recovery code is %q", mode)
			}
			p.fill("code", code)
			if !c.works {
				p.expect("POST /login/tfa 401")
			}
			p.click(submit)
			if c.works {
				p.untilPath("/")
				return
			}
			p.untilRefused()
			if !eval[bool](p, `document.querySelector("[name=kind][value=recovery]").checked`) {
				t.Error("the chosen kind of code is forgotten")
			}
		})
	}
}

// A half-done sign-in waits for five minutes.
func TestSecondFactorTooLate(t *testing.T) {
	t.Parallel()
	c := fixedAt(t, func(string) bool { return true })
	_, host := proxmox(t, sim.Options{Now: c.now})
	p := open(t, inProcess(t, c, host))
	p.goTo("/login")
	p.firstStep(host)
	c.advance(5*time.Minute + time.Second)
	p.expect("POST /login/tfa 401")
	p.fill("code", sim.TOTP(sim.DefaultTOTPSecret, c.now()))
	p.click(submit)
	p.until("the first step again", `document.querySelector("#signin [name=password]")`)
	if p.sessionToken() != "" {
		t.Error("a sign-in that waited too long has a session cookie")
	}
}

func TestSecondFactorWithoutScripts(t *testing.T) {
	t.Parallel()
	c := fixedAt(t, func(string) bool { return true })
	_, host := proxmox(t, sim.Options{Now: c.now})
	p := open(t, inProcess(t, c, host))
	p.withoutScripts()
	p.goTo("/login?next=%2F%3Fq%3Dgitea")
	p.firstStep(host)
	p.expect("POST /login/tfa 401")
	p.fill("code", "000000x")
	p.click(submit)
	p.untilRefused()
	p.fill("code", sim.TOTP(sim.DefaultTOTPSecret, c.now()))
	p.click(submit)
	p.untilPath("/?q=gitea")
	p.untilRows("104")
}
