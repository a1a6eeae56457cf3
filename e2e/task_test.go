package e2e

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"berth/internal/pve/sim"
)

// node is the id of the only node of whoever is signed in.
func (p *page) node() string {
	p.Helper()
	return eval[string](p, `fetch("/api/containers").then((r) => r.json()).then((list) => list.nodes[0].nodeId)`)
}

// post asks the API for something, and returns the named member of its answer.
func (p *page) post(path, body, member string) string {
	p.Helper()
	return eval[string](p, `fetch(`+quote(path)+`, {method: "POST", headers: {"Content-Type": "application/json"}, body: `+quote(body)+`})
		.then((r) => r.json()).then((answer) => String(answer[`+quote(member)+`]))`)
}

// logged are the lines of the log on the page.
const logged = `[...document.querySelectorAll(".log-line")].map((l) => l.innerText.trim())`

// lifecycle signs in as somebody who may do everything.
func lifecycle(t *testing.T, prepare func(dc *sim.Datacenter)) (*page, *sim.Datacenter, *sim.Host, string) {
	t.Helper()
	dc, host := proxmox(t, sim.Options{TaskSpeed: 20})
	if prepare != nil {
		prepare(dc)
	}
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.signIn(host, "root", "pam")
	return p, dc, host, p.node()
}

// TestStopAContainer: a stop is confirmed on a page that names container, VMID and node, and its progress is followed.
func TestStopAContainer(t *testing.T) {
	t.Parallel()
	p, dc, _, node := lifecycle(t, nil)
	p.goTo("/containers/" + node + "/101/stop")
	p.until("what is to be stopped", `["nextcloud", "101", "pve1"].every((text) => document.querySelector("#change").innerText.includes(text))`)
	p.click("#change button[type=submit]")
	p.until("its end", `document.querySelector("#change-title").innerText.includes("was stopped")`)
	p.until("its log", logged+`.includes("TASK OK")`)
	if c, _ := dc.Container(101); c.Status != sim.Stopped {
		t.Errorf("the container is %s", c.Status)
	}
	if n := dc.Accepted(101, "stop"); n != 1 {
		t.Errorf("stopped %d times", n)
	}
	// What does not fit any more is said before it is tried, and after.
	p.goTo("/containers/" + node + "/101/stop")
	p.until("why not", `document.querySelector("#change [role=alert]").innerText.includes("It is not running") && !document.querySelector("#change button")`)
}

// TestDeleteAContainer: nothing is deleted without the name; it works without scripts too.
func TestDeleteAContainer(t *testing.T) {
	t.Parallel()
	p, dc, _, node := lifecycle(t, nil)
	path := "/containers/" + node + "/112/delete"
	p.expect("POST "+path+" 422", "POST "+path+" 422")
	for _, scripts := range []bool{true, false} {
		if !scripts {
			p.withoutScripts()
		}
		p.goTo(path)
		p.fill("confirm", "mine")
		p.click("#change button[type=submit]")
		p.until("what is wrong", `document.querySelector("#confirm-error")?.innerText.includes("That is not its name")`)
		if scripts {
			p.until("the field in focus", `document.activeElement?.name === "confirm"`)
		}
		if _, ok := dc.Container(112); !ok {
			t.Fatal("it was deleted")
		}
	}
	p.fill("confirm", "minecraft")
	p.click("#change button[type=submit]")
	p.until("its page", `location.pathname.startsWith("/operations/")`)
	for range 50 {
		if _, ok := dc.Container(112); !ok {
			break
		}
		p.reload()
	}
	if _, ok := dc.Container(112); ok || dc.Accepted(112, "delete") != 1 {
		t.Error("it was not deleted, or not once")
	}
}

// TestFailedChangeIsANotice: a failure says the last line of its log, on every page until it is dismissed.
func TestFailedChangeIsANotice(t *testing.T) {
	t.Parallel()
	p, _, _, node := lifecycle(t, func(dc *sim.Datacenter) { dc.FailTasks("no space left on device", 102) })
	p.goTo("/containers/" + node + "/102/start")
	p.click("#change button[type=submit]")
	p.until("why it failed", `document.querySelector("#change [role=alert]")?.innerText.includes("no space left on device")`)
	for _, path := range []string{"/", "/settings/about", "/tasks"} {
		p.goTo(path)
		p.until("the notice on "+path, `document.querySelector("#notices").innerText.includes("no space left on device")`)
	}
	p.click("#notices button")
	p.until("it is gone", `document.querySelector("#notices").innerText === ""`)
	p.goTo("/")
	p.until("it stays away", `document.querySelector("#notices").innerText === ""`)
}

// TestNoticeMovesNothing: a change fails while somebody reads a page. The notice comes into view, nothing on the page moves, and
// it goes again.
func TestNoticeMovesNothing(t *testing.T) {
	t.Parallel()
	p, dc, _, node := lifecycle(t, func(dc *sim.Datacenter) {
		if err := dc.SetContainerStatus(111, sim.Stopped); err != nil {
			t.Fatal(err)
		}
	})
	for _, screen := range []screen{screens[0], screens[3]} {
		t.Run(screen.name, func(t *testing.T) {
			p := p.in(t)
			p.lookAt(screen)
			p.goTo("/settings/sessions")
			p.untilStill()
			for i, vmid := range []int{102, 111} {
				line := fmt.Sprint("no room for ", vmid)
				if i == 1 { // a notice that was there when the page was loaded keeps its place
					p.reload()
					p.untilStill()
				}
				if err := dc.FailNextStart(vmid, line); err != nil {
					t.Fatal(err)
				}
				p.post(fmt.Sprintf("/api/containers/%s/%d/start", node, vmid), "{}", "id")
				p.until("the notice in view", `[...document.querySelectorAll(".notice-task")].some((notice) => {
					const { top, bottom } = notice.getBoundingClientRect();
					return notice.innerText.includes(`+quote(line)+`) && top >= 0 && bottom <= innerHeight;
				})`)
				if shift := eval[float64](p, `window.berthTest.shift`); shift >= maxShift {
					t.Errorf("the page moves by %.3f: %s", shift, eval[string](p, `window.berthTest.moved.join("; ")`))
				}
				p.picture(fmt.Sprint("notice-arrived-", i+1, "-", screen.name))
			}
			p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".alerts-more").open = true`))
			p.click(`form[action$="/notices/all/seen"] button`)
			p.until("no notice", `document.getElementById("notices").childElementCount === 0 && document.getElementById("notices").offsetHeight === 0`)
		})
	}
}

// TestRefusedByRights: what the account may not do is said by privilege and path.
func TestRefusedByRights(t *testing.T) {
	t.Parallel()
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
	p.goTo("/containers/" + p.node() + "/101/stop")
	p.until("the privilege", `document.querySelector("#change [role=alert]").innerText.includes("VM.PowerMgmt on /vms/101")`)
	if dc.Accepted(101, "stop") != 0 {
		t.Error("it was stopped")
	}
}

// TestTasksPage: running tasks of others show, with a live log, and can be stopped.
func TestTasksPage(t *testing.T) {
	t.Parallel()
	p, dc, _, _ := lifecycle(t, nil)
	p.goTo("/tasks")
	dc.HoldTasks(true)
	if _, err := dc.ChangeContainer("alice@pve", 102, "start"); err != nil {
		t.Fatal(err)
	}
	p.until("the task", `document.querySelector("#tasks tbody tr")?.innerText.includes("alice@pve") && document.querySelector("#tasks .outcome").innerText === "Running"`)
	p.until("how many run", `document.querySelector("#glance").innerText.startsWith("1")`)
	p.click("#tasks tbody a")
	p.until("the task's page", `document.querySelector("#task .btn-danger")`)
	p.click("#task .btn-danger")
	p.until("a question", `document.querySelector("h1").innerText === "Stop this task?"`)
	p.click(".change button[type=submit]")
	p.until("its end", `document.querySelector("#task .outcome")?.innerText === "Failed"`)
	p.until("its log", logged+`.some((l) => l.includes("received interrupt"))`)
	p.goTo("/tasks?status=failed&q=102")
	p.until("it among the failed", `document.querySelectorAll("#tasks tbody tr").length === 1`)
}

// TestBulkRunPage: each container has its result, and a run goes on while nobody looks.
func TestBulkRunPage(t *testing.T) {
	t.Parallel()
	p, dc, _, node := lifecycle(t, func(dc *sim.Datacenter) { dc.FailTasks("no space left on device", 102) })
	run := p.post("/api/bulk", `{"action":"start","items":[{"nodeId":"`+node+`","vmid":102},{"nodeId":"`+node+`","vmid":112},{"nodeId":"`+node+`","vmid":114}]}`, "id")
	p.goTo("/bulk/" + run)
	p.until("its end", `document.querySelector("#run [role=status]").innerText === "2 of 3 done, 1 failed"`)
	p.until("the reason", `document.querySelector("#run tbody tr").innerText.includes("no space left on device")`)
	if c, _ := dc.Container(114); c.Status != sim.Running {
		t.Errorf("114 is %s", c.Status)
	}
}

// TestLookAtChanges looks at the pages on which containers are changed, and at what came of it.
func TestLookAtChanges(t *testing.T) {
	t.Parallel()
	p, dc, _, node := lifecycle(t, func(dc *sim.Datacenter) { dc.FailTasks("no space left on device", 102, 112) })
	body := `{"action":"start","items":[{"nodeId":"` + node + `","vmid":102},{"nodeId":"` + node + `","vmid":112},{"nodeId":"` + node + `","vmid":114},{"nodeId":"` + node + `","vmid":103}]}`
	run := p.post("/api/bulk", body, "id")
	p.goTo("/bulk/" + run)
	p.until("the end of the run", `document.querySelector("#run [role=status]").innerText.includes("3 failed")`)
	failed := p.post("/api/containers/"+node+"/102/start", "{}", "id")
	p.goTo("/operations/" + failed)
	p.until("its failure", `document.querySelector("#change [role=alert]")`)
	ended := eval[string](p, `document.querySelector("#change .btn-quiet").pathname`)
	p.look(t, "operation-failed", true, func(p *page) { p.goTo("/operations/" + failed) })
	p.look(t, "bulk-run", true, func(p *page) { p.goTo("/bulk/" + run) })
	p.look(t, "notices", true, func(p *page) { p.goTo("/settings/about") })
	p.post("/api/notices/all/seen", "{}", "seen")
	for _, action := range []string{"stop", "shutdown", "delete", "tag", "suspend"} {
		p.look(t, "change-"+action, true, func(p *page) { p.goTo("/containers/" + node + "/101/" + action) })
	}
	p.look(t, "change-delete-stopped", true, func(p *page) { p.goTo("/containers/" + node + "/114/delete") })
	p.look(t, "task", true, func(p *page) { p.goTo(ended) })
	dc.HoldTasks(true)
	going := p.post("/api/containers/"+node+"/103/stop", "{}", "id")
	p.look(t, "operation-running", true, func(p *page) { p.goTo("/operations/" + going) })
	p.look(t, "tasks", true, func(p *page) { p.goTo("/tasks") })
	p.look(t, "tasks-none", true, func(p *page) { p.goTo("/tasks?q=nothing-like-this") })
	p.look(t, "bulk-question", true, func(p *page) {
		p.goTo("/tasks")
		p.do(chromedp.Evaluate[chromedp.Void](`(() => {
			const form = document.createElement("form");
			form.method = "post";
			form.action = "/bulk";
			const add = (name, value) => { const i = document.createElement("input"); i.name = name; i.value = value; form.append(i); };
			add("action", "shutdown");
			for (const vmid of [101, 104, 105, 106, 107, 108]) add("ref", ` + quote(node) + ` + "/" + vmid);
			document.body.append(form);
			form.submit();
		})()`))
		p.until("the question", `document.querySelector(".bulk-list")`)
	})
	dc.HoldTasks(false)
}
