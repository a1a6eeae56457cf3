package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"berth/internal/pve/sim"
	"berth/internal/replicatest"
)

// dashboard signs root in at a host of the default world.
func dashboard(t *testing.T, c *clock) (*page, *sim.Datacenter, *sim.Host) {
	t.Helper()
	dc, host := proxmox(t, sim.Options{Now: c.now})
	p := open(t, inProcess(t, c, host))
	p.goTo("/login")
	p.signIn(host, "root", "pam")
	p.readEverywhere()
	return p, dc, host
}

// readEverywhere has every replica read the hosts, each of which knows what it has read itself.
func (p *page) readEverywhere() {
	p.Helper()
	if replicatest.Wanted() {
		eval[bool](p, `(async () => { for (let i = 0; i < 8; i++) await (await fetch("/api/containers")).text(); return true; })()`)
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	p, _, _ := dashboard(t, &clock{})
	all := p.rows()
	if len(all) < 10 {
		t.Fatalf("root sees only %v", all)
	}

	p.press("/")
	if got := p.focused(); got != "q" {
		t.Fatalf("/ goes to %s", got)
	}
	if got := p.value("q"); got != "" {
		t.Errorf("/ typed %q into the search box", got)
	}
	p.press("med")
	p.untilRows("102", "110")
	p.until("the address to follow", `location.search === "?q=med"`)
	if got := p.focused(); got != "q" {
		t.Errorf("while one types the focus is at %s", got)
	}
	p.press("ia/")
	if got := p.value("q"); got != "media/" {
		t.Errorf("the search box holds %q after media/ was typed", got)
	}
	p.until("nothing to match", `document.querySelector("#containers a[data-clear]")`)
	p.press(kb.Backspace)
	p.untilRows("102", "110")
	if got := p.text("#result"); !strings.Contains(got, "2 of ") {
		t.Errorf("the result says %q", got)
	}

	p.reload()
	p.untilPath("/?q=media")
	p.untilRows("102", "110")
	if got := p.value("q"); got != "media" {
		t.Errorf("after loading anew the search box holds %q", got)
	}

	p.fill("q", "no-such-thing")
	p.until("nothing to match", `document.querySelector("#containers a[data-clear]")`)
	p.click("#containers a[data-clear]")
	p.untilRows(all...)
	if got := p.value("q"); got != "" {
		t.Errorf("after clearing the search box holds %q", got)
	}
	p.untilPath("/")
}

func TestFilterAndSort(t *testing.T) {
	t.Parallel()
	p, _, _ := dashboard(t, &clock{})
	all := p.rows()

	p.click(`nav[aria-label="Filter by status"] a[href*="status=stopped"]`)
	p.untilRows("102", "112", "113", "114")
	p.until("the address to follow", `location.search === "?status=stopped"`)
	p.press("/")
	p.press("debian")
	p.untilRows("113")
	p.until("the address to follow", `new URLSearchParams(location.search).get("q") === "debian" && new URLSearchParams(location.search).get("status") === "stopped"`)
	p.fill("q", "e")
	p.untilRows("102", "112", "113", "114")

	p.click(`th a[href*="sort=name"]`)
	p.untilRows("114", "113", "102", "112")
	if got := eval[string](p, `document.querySelector("th[aria-sort]").innerText.trim() + " " + document.querySelector("th[aria-sort]").ariaSort`); got != "Name ascending" {
		t.Errorf("the head of the list says %q", got)
	}
	p.click(`th a[href*="sort=-name"]`)
	p.untilRows("112", "102", "113", "114")
	p.reload()
	p.untilRows("112", "102", "113", "114")
	if got := p.value("q"); got != "e" {
		t.Errorf("after loading anew the search box holds %q", got)
	}

	// Each change of the filter is a step back.
	p.goTo("/")
	p.click(`nav[aria-label="Filter by status"] a[href*="status=stopped"]`)
	p.untilRows("102", "112", "113", "114")
	p.do(chromedp.Evaluate[chromedp.Void](`history.back()`))
	p.untilPath("/")
	p.untilRows(all...)

	slices.Reverse(all)
	p.click(`th a[href*="sort=vmid"]`)
	p.until("the list to be sorted", `document.querySelector("th[aria-sort=ascending]")`)
	p.click(`th a[href*="sort=-vmid"]`)
	p.untilRows(all...)
}

// The list follows what happens on the host, and nothing that somebody is doing on the page is disturbed.
func TestLiveList(t *testing.T) {
	t.Parallel()
	now := &clock{}
	p, dc, _ := dashboard(t, now)
	p.press("/")
	p.press("cloud")
	p.untilRows("101")
	p.fill("q", "jelly")
	p.untilRows("102")
	shifted := eval[float64](p, `window.berthTest.shift`)
	if err := dc.SetContainerStatus(102, sim.Running); err != nil {
		t.Fatal(err)
	}
	now.advance(time.Minute)
	p.later(time.Minute)
	p.until("the container to run", `document.querySelector("#rows tr .col-status, #rows tr").innerText.includes("running")`)
	if got := p.focused(); got != "q" {
		t.Errorf("after the list changed the focus is at %s", got)
	}
	if got := p.value("q"); got != "jelly" {
		t.Errorf("after the list changed the search box holds %q", got)
	}
	if got := eval[float64](p, `window.berthTest.shift`) - shifted; got > maxShift {
		t.Errorf("the page jumped by %.3f when the list changed", got)
	}
}

// TestHiddenTab: a tab that nobody sees holds no stream and asks for nothing, and catches up when it is seen again.
func TestHiddenTab(t *testing.T) {
	t.Parallel()
	dc, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	p, seen := open(t, b), open(t, b)
	for _, p := range []*page{p, seen} {
		p.goTo("/login")
		p.signIn(host, "root", "pam")
		p.untilStatus(102, "stopped")
	}
	change := func(status string, pages ...*page) {
		t.Helper()
		if err := dc.SetContainerStatus(102, status); err != nil {
			t.Fatal(err)
		}
		for _, p := range pages {
			p.untilStatus(102, status)
		}
	}
	change(sim.Running, p, seen) // so both have streams
	eval[bool](p, `(() => {
		window.streams = { opened: 0, closed: 0 };
		const close = EventSource.prototype.close;
		EventSource.prototype.close = function () { window.streams.closed++; close.call(this); };
		window.EventSource = class extends EventSource { constructor(url) { super(url); window.streams.opened++; } };
		return true;
	})()`)
	hide := func(hidden bool) {
		eval[bool](p, fmt.Sprintf(`Object.defineProperty(document, "hidden", { configurable: true, value: %t }) && document.dispatchEvent(new Event("visibilitychange"))`, hidden))
	}
	hide(true)
	if n := eval[int](p, `window.streams.closed`); n != 1 {
		t.Errorf("%d streams were closed", n)
	}
	change(sim.Stopped, seen)
	if got := p.text(row(102) + " .col-status"); strings.TrimSpace(got) != sim.Running {
		t.Errorf("a tab that nobody sees was told that the container is %q", got)
	}
	if n := eval[int](p, `window.streams.opened`); n != 0 {
		t.Errorf("%d streams were opened", n)
	}
	hide(false)
	p.untilStatus(102, sim.Stopped)
	p.until("a stream", `window.streams.opened > 0`)
	change(sim.Running, p, seen)
}

func TestHostDown(t *testing.T) {
	t.Parallel()
	now := &clock{}
	p, dc, host := dashboard(t, now)
	p.goTo("/?status=running")
	before := p.rows()
	if err := dc.StopMember(host.Member()); err != nil {
		t.Fatal(err)
	}
	now.advance(time.Minute)
	p.later(time.Minute)
	p.until("a banner", `document.querySelector("#containers [role=alert]")`)
	if got := p.text("#containers [role=alert]"); !strings.Contains(got, host.Address()) && !strings.Contains(got, "127.0.0.1") {
		t.Errorf("the banner does not name the host: %q", got)
	}
	if got := p.rows(); !slices.Equal(got, before) {
		t.Errorf("of the rows %v there remain %v", before, got)
	}
	p.untilPath("/?status=running")

	// So does a page that is loaded meanwhile, with everything on it still in use.
	p.reload()
	p.until("a banner", `document.querySelector("#containers [role=alert]")`)
	p.untilRows(before...)
	p.fill("q", "gitea")
	p.untilRows("104")

	if err := dc.StartMember(host.Member()); err != nil {
		t.Fatal(err)
	}
	now.advance(time.Minute)
	p.later(time.Minute)
	p.until("no banner", `document.querySelector("#rows tr") && !document.querySelector("#containers [role=alert]")`)
	p.untilRows("104")
}

// Berth itself can go away too.
func TestBerthDown(t *testing.T) {
	t.Parallel()
	p, _, _ := dashboard(t, &clock{})
	before := p.rows()
	p.line(0, true)
	// Which of the page's requests finds out first, and which of them is made at all meanwhile, depends on when each is due.
	const offline = " net::ERR_INTERNET_DISCONNECTED"
	p.expectAny("GET /"+offline, "GET /tasks/glance"+offline, "GET /api/events"+offline, "GET /api/auth/session"+offline)
	p.later(time.Minute)
	p.until("a word about it", `document.querySelector("#connection").innerText.includes("No connection")`)
	if got := p.rows(); !slices.Equal(got, before) {
		t.Errorf("of the rows %v there remain %v", before, got)
	}
	p.line(0, false)
	p.later(time.Minute)
	p.until("no word about it", `document.querySelector("#connection").innerText === ""`)
}

func TestTheme(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, inProcess(t, &clock{}, host))
	const dark = `(() => {
		const c = document.createElement("canvas").getContext("2d");
		c.fillStyle = getComputedStyle(document.body).backgroundColor;
		c.fillRect(0, 0, 1, 1);
		const [r, g, b] = c.getImageData(0, 0, 1, 1).data;
		return r + g + b < 3 * 128;
	})()`
	prefer(p, "light")
	p.goTo("/login")
	p.until("a light page", "!"+dark)
	prefer(p, "dark")
	p.until("the page to follow the system", dark)

	p.click(`label:has([name=theme][value=light])`)
	p.until("a light page", "!"+dark)
	p.reload()
	p.until("the choice to be remembered", "!"+dark)
	if got := eval[string](p, `document.querySelector("[name=theme]:checked").value`); got != "light" {
		t.Errorf("the switch stands at %s", got)
	}
	p.signIn(host, "alice", "pve")
	p.until("the choice to hold on other pages", "!"+dark)
	p.click(`label:has([name=theme][value=system])`)
	p.until("the page to follow the system again", dark)
	p.reload()
	p.until("that to be remembered", dark)
}

// prefer makes the system one that prefers a colour scheme, and no animations, so that a page is still when it is looked at.
func prefer(p *page, scheme string) {
	p.Helper()
	call(p, func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	})
}
