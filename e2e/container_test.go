package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"berth/internal/pve/sim"
)

// oneContainer signs in at a simulated cluster and returns what loads the page of a container.
func oneContainer(t *testing.T, user, realm string, vmid int) (*page, *sim.Datacenter, *sim.Host, func(p *page)) {
	t.Helper()
	dc, host := proxmox(t, sim.Options{Name: "harbour", Members: []string{"pve1", "pve2"}})
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.signIn(host, user, realm)
	node := eval[string](p, `fetch("/api/containers").then((r) => r.json()).then((list) => list.nodes[0].nodeId)`)
	return p, dc, host, func(p *page) { p.goTo(fmt.Sprintf("/containers/%s/%d", node, vmid)) }
}

// TestLookContainer looks at the page of one container in its states.
func TestLookContainer(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		name    string
		prepare func(t *testing.T) (*page, func(p *page))
	}{
		{"container-running", func(t *testing.T) (*page, func(p *page)) {
			p, _, _, load := oneContainer(t, "root", "pam", 101)
			return p, load
		}},
		{"container-pointed-at", func(t *testing.T) (*page, func(p *page)) {
			p, _, _, load := oneContainer(t, "root", "pam", 100)
			return p, func(p *page) {
				load(p)
				p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector('.tabs a[href*="timeframe=week"]').click()`))
				p.until("graphs of a week", `document.querySelector("#graphs").dataset.frame === "week" && document.querySelectorAll(".graph-peak").length === 7`)
				p.do(chromedp.Evaluate[chromedp.Void](`(() => {
					document.querySelector(".edit").open = true;
					document.querySelector(".more-actions").open = true;
					const box = document.querySelector(".graph-plot").getBoundingClientRect();
					document.querySelector(".graph-plot").dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: box.left + box.width * 0.4, clientY: box.top + 50}));
				})()`))
				p.until("a value", `document.querySelector(".graph-cursor").getAttribute("visibility") === "visible" && !document.querySelector(".graph-time").hidden`)
			}
		}},
		{"container-stopped", func(t *testing.T) (*page, func(p *page)) {
			p, _, _, load := oneContainer(t, "root", "pam", 112)
			return p, load
		}},
		{"container-with-history", func(t *testing.T) (*page, func(p *page)) {
			p, dc, _, load := oneContainer(t, "root", "pam", 112)
			dc.FailTasks("volume 'local-lvm:vm-112-disk-0' does not exist", 112)
			if _, err := dc.ChangeContainer("root@pam", 112, "start"); err != nil {
				t.Fatal(err)
			}
			load(p)
			p.click("#notes details.edit > summary")
			p.fill("tags", "games weekend")
			p.click("#notes button[type=submit]")
			p.until("the new tags", `document.querySelector("#notes [role=status]")`)
			dc.FailTasks("", 112)
			dc.HoldTasks(true)
			if _, err := dc.ChangeContainer("bob@pve", 112, "start"); err != nil {
				t.Fatal(err)
			}
			return p, func(p *page) {
				load(p)
				p.until("the running task", `document.querySelector(".container-task")`)
			}
		}},
		{"container-of-a-user", func(t *testing.T) (*page, func(p *page)) {
			p, _, _, load := oneContainer(t, "alice", "pve", 102)
			return p, load
		}},
		{"container-parts-missing", func(t *testing.T) (*page, func(p *page)) {
			p, _, host, load := oneContainer(t, "root", "pam", 101)
			return p, func(p *page) {
				host.SetFault("GET", "/nodes/pve2/lxc/101/status", sim.Fault{Status: 595})
				host.SetFault("GET", "/nodes/pve2/lxc/101/rrddata", sim.Fault{Status: 500, Reason: "RRD error: opening '/var/lib/rrdcached/db/pve-vm-9.0/101': No such file"})
				host.SetFault("GET", "/nodes/pve2/lxc/101/interfaces", sim.Fault{Status: 500, Reason: "command 'lxc-info' failed: exit code 1"})
				host.SetFault("GET", "/nodes/pve2/tasks", sim.Fault{Status: 403, Reason: "Permission check failed"})
				load(p)
			}
		}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p, load := s.prepare(t)
			p.look(t, s.name, true, load)
		})
	}
}

// TestContainerLives: what happens on the host shows on the page, and takes nothing away from who is at work on it.
func TestContainerLives(t *testing.T) {
	t.Parallel()
	p, dc, _, load := oneContainer(t, "root", "pam", 112)
	load(p)
	p.click("#notes details.edit > summary")
	p.fill("tags", "games night")
	p.click("#container-menu > summary")
	if _, err := dc.ChangeContainer("alice@pve", 112, "start"); err == nil {
		t.Fatal("alice starts a container that is not hers")
	}
	upid, err := dc.ChangeContainer("root@pam", 112, "start")
	if err != nil {
		t.Fatal(err)
	}
	p.until("it to run", `document.querySelector("#live .status").textContent === "running" && document.querySelector("#live .tiles").innerText.includes("Uptime")`)
	p.until("its task", `[...document.querySelectorAll("#container-tasks tbody a")].some((a) => decodeURIComponent(a.pathname).endsWith(`+quote(upid)+`))`)
	if got := p.value("tags"); got != "games night" {
		t.Errorf("the form holds %q", got)
	}
	if !eval[bool](p, `document.querySelector("#container-menu").open && document.querySelector("#notes details.edit").open`) {
		t.Error("what was open is closed")
	}
	p.press(kb.Escape)
	p.until("the menu closed", `!document.querySelector("#container-menu").open`)

	p.click("#notes button[type=submit]")
	p.until("the new tags", `location.hash === "#notes" && document.querySelector("#notes [role=status]") && [...document.querySelectorAll("#live .tag")].map((t) => t.textContent).join() === "games,night"`)
	if c, _ := dc.Container(112); c.Tags != "games;night" {
		t.Errorf("the host has the tags %q", c.Tags)
	}
}

// TestGraphsByKeyboard: the values of a graph are there for who has no pointer, and the address has the time frame.
func TestGraphsByKeyboard(t *testing.T) {
	t.Parallel()
	p, _, _, load := oneContainer(t, "root", "pam", 101)
	load(p)
	rest := p.text(".graph-value")
	if !strings.HasPrefix(rest, "average ") {
		t.Errorf("at rest a graph says %q", rest)
	}
	p.focus(".graph-plot")
	p.press(kb.ArrowLeft)
	p.until("the last value", `!document.querySelector(".graph-time").hidden && document.querySelector(".graph-cursor").getAttribute("x1") === "100%"`)
	if got := p.text(".graph-value"); !strings.HasSuffix(got, " %") || strings.Contains(got, "average") {
		t.Errorf("the value is %q", got)
	}
	last := p.text(".graph-time")
	p.press(kb.ArrowLeft)
	p.until("the one before", `document.querySelector(".graph-time").textContent !== `+quote(last))
	p.press(kb.Escape)
	p.until("the summary again", `document.querySelector(".graph-value").textContent === `+quote(rest)+` && document.querySelector(".graph-time").hidden`)

	p.click(`.tabs a[href*="timeframe=year"]`)
	p.until("a year", `document.querySelector("#graphs").dataset.frame === "year" && location.search === "?timeframe=year"`)
	if got := p.text("#graphs-title"); got != "Use over the last year" {
		t.Errorf("the heading is %q", got)
	}
	p.reload()
	p.until("still a year", `document.querySelector("#graphs").dataset.frame === "year"`)
}
