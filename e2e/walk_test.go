package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"berth/internal/pve/sim"
)

// TestWalkWithFewRights: a user with PVEVMUser on two containers and nothing else finds no page that fails, wherever links lead.
// What a page complains of fails the test; see page.
func TestWalkWithFewRights(t *testing.T) {
	t.Parallel()
	dc, host := proxmox(t, sim.Options{TaskSpeed: 20})
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.signIn(host, "alice", "pve")
	p.untilRows("101", "102")
	node := p.node()
	task, err := dc.ChangeContainer("alice@pve", 102, "start")
	if err != nil {
		t.Fatal(err)
	}
	run := p.post("/api/bulk", `{"action":"stop","items":[{"nodeId":"`+node+`","vmid":101},{"nodeId":"`+node+`","vmid":999}]}`, "id")
	p.goTo("/bulk/" + run)
	p.until("the end of the run", `document.querySelector("#run [role=status]").innerText.includes("failed")`)

	ahead := []string{"/", "/bulk/" + run, "/tasks/" + node + "/" + task}
	for _, vmid := range []int{101, 102} {
		for _, action := range []string{"start", "shutdown", "stop", "reboot", "suspend", "resume", "tag", "delete"} {
			ahead = append(ahead, fmt.Sprintf("/containers/%s/%d/%s", node, vmid, action))
		}
	}
	var walked []string
	for ; len(ahead) > 0 && len(walked) < 200; ahead = ahead[1:] {
		path := ahead[0]
		if slices.Contains(walked, path) {
			continue
		}
		walked = append(walked, path)
		p.goTo(path)
		p.until("a page at "+path, `document.readyState === "complete" && document.querySelector("main h1, #containers")`)
		links := eval[[]string](p, `[...document.querySelectorAll("a[href]:not([download])")]
			.filter((link) => link.origin === location.origin && !link.pathname.startsWith("/api/")).map((link) => link.pathname)`)
		ahead = append(ahead, links...)
	}
	for _, want := range []string{
		"/containers/" + node + "/101", "/containers/" + node + "/102", "/tasks", "/settings/nodes", "/settings/nodes/" + node, "/settings/nodes/add",
		"/settings/tokens", "/settings/sessions", "/settings/audit", "/settings/about",
	} {
		if !slices.Contains(walked, want) {
			t.Errorf("no link led to %s", want)
		}
	}
	t.Logf("%d pages", len(walked))
}

// TestCutOffInTheMiddle: a node that goes away while it works on a change is said to be away, the change is neither lost nor
// asked for again, and its end shows once the node is back. The answer to the second change gets lost on its way.
func TestCutOffInTheMiddle(t *testing.T) {
	t.Parallel()
	p, dc, host, node := lifecycle(t, nil)
	p.goTo("/")
	p.untilStatus(101, "running")
	dc.HoldTasks(true)
	p.goTo("/containers/" + node + "/101/stop")
	p.click("#change button[type=submit]")
	p.until("it going on", `document.querySelector("#change .spinner") && document.querySelector("#change").dataset.live`)
	here := eval[string](p, `document.querySelector("#change").dataset.live`)
	host.SetFault("", "", sim.Fault{Refuse: true})
	p.goTo("/")
	p.until("a banner, and what was last known", `document.querySelector("#containers [role=alert]") && document.querySelector('`+row(101)+`[data-stale]')`)
	p.goTo(here)
	p.until("it not given up", `document.querySelector("#change .spinner") && !document.querySelector("#change [role=alert]")`)
	dc.HoldTasks(false)
	host.ClearFaults()
	p.until("its end", `document.querySelector("#change-title").innerText.includes("was stopped")`)
	p.goTo("/")
	p.untilStatus(101, "stopped")
	p.until("no banner", `!document.querySelector("#containers [role=alert]")`)
	if n := dc.Accepted(101, "stop"); n != 1 {
		t.Errorf("it was stopped %d times", n)
	}

	host.SetFault("POST", "/nodes/pve1/lxc/101/status/start", sim.Fault{CutAnswer: true, Times: 1})
	p.goTo("/containers/" + node + "/101/start")
	p.click("#change button[type=submit]")
	p.until("its end", `document.querySelector("#change-title").innerText.includes("was started")`)
	if n := dc.Accepted(101, "start"); n != 1 {
		t.Errorf("it was started %d times", n)
	}
}

// TestBulkRunOver200 stops all that match, of which ten fail, and each has its result.
func TestBulkRunOver200(t *testing.T) {
	t.Parallel()
	dc, host := proxmox(t, sim.Options{Name: "big", Members: []string{"m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"}, Containers: 400, TaskSpeed: 100})
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.signIn(host, "root", "pam")
	var list struct {
		Items []struct {
			VMID     int
			Name     string
			Lock     string
			Template bool
		}
	}
	text := eval[string](p, `fetch("/api/containers?status=running&limit=1000").then((r) => r.text())`)
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	matched, locked := len(list.Items), 0
	var failing []int
	for _, c := range list.Items {
		if c.Lock != "" {
			locked++
		} else if len(failing) < 10 {
			failing = append(failing, c.VMID)
		}
	}
	if matched < 200 || len(failing) != 10 {
		t.Fatalf("%d containers run", matched)
	}
	dc.FailTasks("no space left on device", failing...)

	p.goTo("/?status=running")
	p.until("the list", `document.querySelector("#rows tr")`)
	p.click("#pick-all")
	p.until("all selected", `document.querySelector("[data-count]").textContent === `+quote(fmt.Sprintf("%d selected", matched)))
	p.click("[data-bulk=stop]")
	p.until("a dialog", `document.querySelector("#ask[open] form")`)
	p.click("#ask button[type=submit]")
	p.until("a panel", `!document.getElementById("run-panel").hidden`)
	// A run of hundreds takes its time, on a busy machine more than a page has patience.
	for range 4 {
		if eval[bool](p, `(async () => {
			for (let i = 0; i < 300 && document.getElementById("run-panel").dataset.ended !== "true"; i++) await new Promise((go) => setTimeout(go, 100));
			return document.getElementById("run-panel").dataset.ended === "true";
		})()`) {
			break
		}
	}
	p.until("the end", `document.getElementById("run-panel").dataset.ended === "true"`)
	failed := 10 + locked
	panel := p.text("#run-panel")
	if !strings.Contains(panel, fmt.Sprintf("Stop: %d containers %d done, %d failed", matched, matched-failed, failed)) || strings.Count(panel, "no space left on device") != 10 {
		t.Errorf("the panel says %.500s", panel)
	}
	for _, c := range list.Items {
		want := sim.Stopped
		if c.Lock != "" || slices.Contains(failing, c.VMID) {
			want = sim.Running
		}
		if got, _ := dc.Container(c.VMID); got.Status != want {
			t.Errorf("%d is %s, want %s", c.VMID, got.Status, want)
		}
		if n := dc.Accepted(c.VMID, "stop"); n > 1 {
			t.Errorf("%d was stopped %d times", c.VMID, n)
		}
	}
}

// TestByKeyboardAlone signs in, starts a container, stops it again and signs out without a pointer.
func TestByKeyboardAlone(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{TaskSpeed: 20})
	p := open(t, inProcess(t, &clock{}, host))
	// tab goes on from control to control, forwards or backwards, until the focus is where an expression says.
	tab := func(what, there string, back bool) {
		t.Helper()
		for range 80 {
			if eval[bool](p, `!!(`+there+`)`) {
				return
			}
			if back {
				call(p, func(ctx context.Context) error {
					for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
						e := input.DispatchKeyEventParams{Type: kind, Key: "Tab", Code: "Tab", WindowsVirtualKeyCode: 9, Modifiers: 8}
						if _, err := chromedp.Call(ctx, input.DispatchKeyEvent, e); err != nil {
							return err
						}
					}
					return nil
				})
				continue
			}
			p.press(kb.Tab)
		}
		p.fatal("the keyboard does not lead to " + what)
	}
	name, port := split(t, host)
	p.goTo("/login")
	p.until("the focus at the first field", `document.activeElement.name === "host"`)
	p.press(name + kb.Tab + port + kb.Tab + "root" + kb.Tab + sim.DefaultPassword + kb.Tab + "Linux" + kb.Tab + kb.Enter)
	p.untilSignedIn()

	p.until("the keys at work", `document.activeElement`)
	p.press("/")
	p.until("the focus in the search", `document.activeElement.id === "q"`)
	p.press("jellyfin")
	p.untilRows("102")
	tab("the row's start", `document.activeElement.matches('`+row(102)+` [data-action=start]')`, false)
	p.press(kb.Enter)
	p.untilStatus(102, "running")
	p.until("the start to be over", `!document.querySelector('`+row(102)+`').dataset.refused.includes("stop:")`)
	tab("the row's menu", `document.activeElement.matches('`+row(102)+` [data-menu]')`, eval[bool](p, `document.activeElement === document.body`))
	p.press(kb.Enter)
	p.until("a menu", `document.querySelector("#row-menu:popover-open")`)
	for range 8 {
		if eval[string](p, `document.activeElement.dataset.action ?? ""`) == "stop" {
			break
		}
		p.press(kb.ArrowDown)
	}
	p.press(kb.Enter)
	p.until("a dialog", `document.querySelector("#ask[open] form") && document.querySelector("#ask").contains(document.activeElement)`)
	tab("the dialog's button", `document.activeElement.matches("#ask [type=submit]")`, false)
	p.press(kb.Enter)
	p.untilStatus(102, "stopped")
	p.until("the dialog to say so", `document.querySelector("#ask")?.innerText.includes("was stopped") || !document.querySelector("#ask[open]")`)
	p.press(kb.Escape)
	p.until("no dialog", `!document.querySelector("dialog[open]")`)
	tab("the way out", `document.activeElement.closest("form[action='/logout']")`, true)
	p.signOutBy(func() { p.press(kb.Enter) })
}

// TestOnAPhone starts a container and stops it again on 390 pixels: what it takes is within reach and on the screen.
func TestOnAPhone(t *testing.T) {
	t.Parallel()
	p, dc, _, _ := lifecycle(t, nil)
	for _, screen := range screens {
		if screen.name == "phone-light" {
			p.lookAt(screen)
		}
	}
	p.goTo("/")
	p.until("the list on a narrow screen", `innerWidth === 390 && document.querySelector("#rows tr")`)
	fits := func(selector string) {
		t.Helper()
		box := eval[[]float64](p, `(({left, right}) => [left, right])(document.querySelector(`+quote(selector)+`).getBoundingClientRect())`)
		if box[0] < 0 || box[1] > 390 {
			t.Errorf("%s goes from %.0f to %.0f", selector, box[0], box[1])
		}
	}
	p.fill("q", "jellyfin")
	p.untilRows("102")
	p.click(row(102) + " [data-menu]")
	p.until("a menu", `document.querySelector("#row-menu:popover-open")`)
	fits("#row-menu")
	p.click("#row-menu [data-action=start]")
	p.untilStatus(102, "running")
	p.until("the start to be over", `!document.querySelector('`+row(102)+`').dataset.refused.includes("stop:")`)
	p.click(row(102) + " [data-menu]")
	p.until("a menu", `document.querySelector("#row-menu:popover-open")`)
	p.click("#row-menu [data-action=stop]")
	p.until("a dialog", `document.querySelector("#ask[open] form")`)
	fits("#ask")
	p.click("#ask button[type=submit]")
	p.untilStatus(102, "stopped")
	if starts, stops := dc.Accepted(102, "start"), dc.Accepted(102, "stop"); starts != 1 || stops != 1 {
		t.Errorf("%d starts and %d stops", starts, stops)
	}
}

// TestReadThroughAnotherDoor: what one door to a cluster no longer reads another does, and the page says so.
func TestReadThroughAnotherDoor(t *testing.T) {
	t.Parallel()
	now := &clock{}
	_, home := proxmox(t, sim.Options{})
	dc, east := proxmox(t, sim.Options{Now: now.now, Name: "garden", Members: []string{"east", "west"}})
	west, err := dc.Listen("west", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { west.Close() })
	p := open(t, inProcess(t, &clock{}, home))
	p.goTo("/login")
	p.signIn(home, "root", "pam")
	p.addNode(dc, east, "east")
	p.addNode(dc, west, "west")
	p.goTo("/")
	p.until("the list", `document.querySelector("#rows tr")`)
	if err := dc.StopMember("east"); err != nil {
		t.Fatal(err)
	}
	p.until("the other door's name", `document.querySelector(".banner")?.innerText.includes("read through west")`)
	now.advance(5 * time.Minute) // by then the cluster has noticed, and knows no names of what was there
	p.until("a row without a name", `[...document.querySelectorAll("#rows .name")].some((name) => name.innerText === "CT 100")`)
	if eval[bool](p, `!!document.querySelector("#rows tr[data-stale]")`) {
		t.Error("rows are shown as last known")
	}
	p.look(t, "another-door", true, func(p *page) {
		p.goTo("/")
		p.until("the banner", `document.querySelector(".banner")`)
	})
}
