package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"berth/internal/pve/sim"
)

// looker signs in as somebody who sees all containers and may change none.
func looker(t *testing.T) *page {
	t.Helper()
	dc, host := proxmox(t, sim.Options{})
	if err := dc.AddUser(sim.User{ID: "looker@pve", Password: sim.DefaultPassword}); err != nil {
		t.Fatal(err)
	}
	if err := dc.Grant(sim.ACL{Path: "/vms", User: "looker@pve", Role: "PVEAuditor"}); err != nil {
		t.Fatal(err)
	}
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.signIn(host, "looker", "pve")
	return p
}

// The bar of the selection offers nothing that each of the selected refuses, and says why.
func TestBulkRefused(t *testing.T) {
	t.Parallel()
	p := looker(t)
	p.until("rows with their rights", `document.querySelector('`+row(101)+`')?.dataset.refused?.includes("VM.PowerMgmt")`)
	p.click(row(101) + " [name=ref]")
	p.click(row(102) + " [name=ref]")
	const disabled = `[...document.querySelectorAll("[data-bulk][aria-disabled]")].map((b) => b.dataset.bulk)`
	if got, want := eval[[]string](p, disabled), []string{"start", "shutdown", "reboot", "stop", "tag"}; !slices.Equal(got, want) {
		t.Errorf("disabled are %v, want %v", got, want)
	}
	p.focus("[data-bulk=stop]")
	p.press(kb.Enter)
	p.until("why not", `!document.getElementById("note").hidden`)
	if got := p.text("#note p"); !strings.Contains(got, "None of the selected") || !strings.Contains(got, "VM.PowerMgmt") {
		t.Errorf("it says %q", got)
	}
	if eval[bool](p, `document.querySelector("dialog[open]") !== null`) {
		t.Error("a dialog asks as if it could be done")
	}
}

// One that may be stopped is enough for the bar to offer it, whatever state the others are in.
func TestBulkAllowedBySome(t *testing.T) {
	t.Parallel()
	p, _, _ := dashboard(t, &clock{})
	p.untilStatus(102, "stopped")
	disabled := func(want bool) {
		t.Helper()
		p.until("the button", `(document.querySelector("[data-bulk=stop]").ariaDisabled === "true") === `+map[bool]string{true: "true", false: "false"}[want])
	}
	p.click(row(102) + " [name=ref]")
	disabled(true)
	p.click(row(101) + " [name=ref]")
	disabled(false)
	p.click(row(101) + " [name=ref]")
	disabled(true)
}

// What is canceled before its turn is no failure, and is said once.
func TestCanceledInARun(t *testing.T) {
	t.Parallel()
	p, dc, _ := dashboard(t, &clock{})
	dc.HoldTasks(true)
	p.click("#pick-all")
	p.until("the bar", `document.querySelector(".bulk-on")`)
	p.click("[data-bulk=stop]")
	p.until("a dialog", `document.querySelector("#ask[open] form")`)
	p.press(kb.Enter)
	p.until("what waits", `document.querySelector("#run-panel [data-state=waiting]")`)
	p.click("[data-run=cancel]")
	p.until("what is canceled", `document.querySelector("#run-panel [data-state=canceled]")`)
	if got := eval[string](p, `document.querySelector("#run-panel [data-state=canceled]").innerText`); strings.Count(strings.ToLower(got), "cancel") != 1 {
		t.Errorf("it says %q", got)
	}
	dc.HoldTasks(false)
	p.until("the end", `document.getElementById("run-panel").dataset.ended === "true"`)
}

// TestLookBulk looks at the dock of the selection and of a run.
func TestLookBulk(t *testing.T) {
	t.Parallel()
	t.Run("fleet-selection-refused", func(t *testing.T) {
		t.Parallel()
		p := looker(t)
		p.look(t, "fleet-selection-refused", true, func(p *page) {
			p.goTo("/")
			p.until("rows with their rights", `document.querySelector('`+row(101)+`')?.dataset.refused?.includes("VM.PowerMgmt")`)
			p.click(row(101) + " [name=ref]")
			p.click(row(102) + " [name=ref]")
			p.focus("[data-bulk=stop]")
			p.press(kb.Enter)
			p.until("why not", `!document.getElementById("note").hidden`)
		})
	})
	t.Run("fleet-run-canceled", func(t *testing.T) {
		t.Parallel()
		p, dc, _ := dashboard(t, &clock{})
		dc.HoldTasks(true)
		p.click("#pick-all")
		p.until("the bar", `document.querySelector(".bulk-on")`)
		p.click("[data-bulk=stop]")
		p.until("a dialog", `document.querySelector("#ask[open] form")`)
		p.press(kb.Enter)
		p.until("what waits", `document.querySelector("#run-panel [data-state=waiting]")`)
		p.click("[data-run=cancel]")
		dc.HoldTasks(false)
		p.until("the end", `document.getElementById("run-panel").dataset.ended === "true"`)
		p.look(t, "fleet-run-canceled", true, func(p *page) {
			p.goTo("/")
			p.until("the run", `document.getElementById("run-panel")?.dataset.ended === "true"`)
		})
	})
	t.Run("fleet-view-of-two-nodes", func(t *testing.T) {
		t.Parallel()
		_, host := proxmox(t, sim.Options{})
		attic, second := proxmox(t, sim.Options{Name: "attic", Members: []string{"pve8", "pve9"}, Seed: 7})
		p := open(t, inProcess(t, &clock{}, host))
		p.goTo("/login")
		p.signIn(host, "root", "pam")
		p.addNode(attic, second, "attic")
		p.look(t, "fleet-view-of-two-nodes", true, func(p *page) {
			p.goTo("/")
			p.until("both nodes", `document.querySelectorAll("#rows tr").length >= 30`)
			p.click("#layout summary")
			box := eval[[]float64](p, `(({left, right}) => [left, right, innerWidth])(document.querySelector(".drop-panel").getBoundingClientRect())`)
			if box[0] < 0 || box[1] > box[2] {
				t.Errorf("the panel reaches from %.0f to %.0f on a screen %.0f wide", box[0], box[1], box[2])
			}
		})
	})
	t.Run("fleet-more-in-focus", func(t *testing.T) {
		t.Parallel()
		p, load := containers(t, sim.Options{}, "root", "pam", "/")
		p.look(t, "fleet-more-in-focus", false, func(p *page) {
			load(p)
			p.focus(row(101) + " [data-action]")
			p.press(kb.Tab)
			// A ring is drawn outside of its button: what holds the button must not cut it.
			if got := eval[string](p, `(() => {
				const button = document.activeElement, ring = 4, box = button.getBoundingClientRect();
				for (let e = button.parentElement; e; e = e.parentElement) {
					const { overflow } = getComputedStyle(e), outer = e.getBoundingClientRect();
					if (overflow !== "visible" && (box.right + ring > outer.right || box.left - ring < outer.left || box.top - ring < outer.top)) return button.outerHTML.slice(0, 60) + " is cut by " + e.className;
				}
				return "";
			})()`); got != "" {
				t.Error(got)
			}
		})
	})
}
