package e2e

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

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
