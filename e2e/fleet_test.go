package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"berth/internal/pve/sim"
)

const (
	// maxRowElements is how many rows a page holds at most, however many containers there are.
	maxRowElements = 300
	// maxSearch is how long a key may take until its result is painted, in 95 of 100 cases, on a machine with nothing else
	// to do. A busy one, or the race detector, takes several times as long, so that only slackSearch is a failure.
	maxSearch   = 100 * time.Millisecond
	slackSearch = 10 * maxSearch
	// maxHeap is what the page's scripts may keep, in bytes.
	maxHeap = 100 << 20
)

// stopwatch measures, in the page, the time from a key to the paint of the list that it led to.
const stopwatch = `(() => {
	const box = document.getElementById("q");
	let pressed;
	berthTest.took = [];
	document.addEventListener("keydown", (event) => { pressed = event.timeStamp; }, true);
	const shown = () => new URL(document.querySelector("nav.tabs a").href).searchParams.get("q") ?? "";
	new MutationObserver(() => {
		if (pressed === undefined || shown() !== box.value) return;
		const from = pressed;
		pressed = undefined;
		// A frame callback runs before the paint, a message that it sends arrives after it.
		requestAnimationFrame(() => {
			const { port1, port2 } = new MessageChannel();
			port1.onmessage = () => berthTest.took.push(performance.now() - from);
			port2.postMessage(0);
		});
	}).observe(document.getElementById("containers"), { subtree: true, attributes: true, childList: true, characterData: true });
	return true;
})()`

// TestFleetOf10000 types, scrolls and waits in a list of ten thousand.
func TestFleetOf10000(t *testing.T) {
	_, host := proxmox(t, sim.Options{Containers: 10_000})
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.signIn(host, "root", "pam")
	p.until("the list", `document.querySelector("#rows tr")`)
	total := eval[int](p, `Number(document.getElementById("containers").dataset.matches)`)
	if total < 9_000 {
		t.Fatalf("%d containers", total)
	}

	eval[bool](p, stopwatch)
	work := mainThread(p)
	p.press("/")
	for range 6 {
		for _, key := range []string{"w", "e", "b", "-", "1", kb.Backspace, kb.Backspace, kb.Backspace, kb.Backspace, kb.Backspace} {
			n := eval[int](p, `berthTest.took.length`)
			p.press(key)
			p.until("the result", fmt.Sprintf(`berthTest.took.length > %d`, n))
		}
	}
	took := eval[[]float64](p, `berthTest.took`)
	worked := mainThread(p) - work
	slices.Sort(took)
	at := func(share float64) time.Duration {
		return time.Duration(took[int(share*float64(len(took)-1))] * float64(time.Millisecond)).Round(time.Millisecond)
	}
	t.Logf("%d containers: from a key to its paint %s at p50, %s at p95, %s at most, of %d keys", total, at(0.5), at(0.95), at(1), len(took))
	t.Logf("the page's main thread works %s for a key", (worked / time.Duration(len(took))).Round(100*time.Microsecond))
	if at(0.95) > slackSearch {
		t.Errorf("p95 of a search is %s, meant to be at most %s", at(0.95), maxSearch)
	}

	// Scrolling anywhere brings what is there, with no more rows than a window.
	for _, share := range []float64{0.5, 1, 0.25, 0} {
		eval[bool](p, fmt.Sprintf(`(scrollTo(0, (document.scrollingElement.scrollHeight - innerHeight) * %f), true)`, share))
		p.until(fmt.Sprintf("rows where one has scrolled to, at %.2f", share), `(() => {
			const sight = [...document.querySelectorAll("#rows tr")].filter((row) => {
				const { top, bottom } = row.getBoundingClientRect();
				return bottom > 0 && top < innerHeight;
			});
			const list = document.querySelector(".list").getBoundingClientRect();
			return sight.length >= Math.floor((Math.min(innerHeight, list.bottom) - Math.max(0, list.top) - 100) / 52);
		})()`)
		if n := eval[int](p, `document.querySelectorAll("tr").length`); n > maxRowElements {
			t.Errorf("%d row elements, at most %d", n, maxRowElements)
		}
	}
	eval[bool](p, `(scrollTo(0, document.scrollingElement.scrollHeight), true)`)
	p.until("the last row", fmt.Sprintf(`document.querySelector("#rows tr[aria-rowindex='%d']")`, total+1))

	heap := heapUse(p)
	t.Logf("heap of the page: %.1f MB", float64(heap)/(1<<20))
	if heap > maxHeap {
		t.Errorf("the page's heap has %d bytes, at most %d", heap, maxHeap)
	}
}

// mainThread is how long the page's main thread has worked, whatever else the machine did meanwhile.
func mainThread(p *page) time.Duration {
	p.Helper()
	var worked time.Duration
	call(p, func(ctx context.Context) error {
		if _, err := chromedp.Call(ctx, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks}); err != nil {
			return err
		}
		got, err := chromedp.Call(ctx, performance.GetMetrics, cdp.Empty{})
		for _, metric := range got.Metrics {
			if metric.Name == "TaskDuration" {
				worked = time.Duration(metric.Value * float64(time.Second))
			}
		}
		return err
	})
	return worked
}

// heapUse is what the page's scripts keep, after a collection.
func heapUse(p *page) int64 {
	p.Helper()
	var used float64
	call(p, func(ctx context.Context) error {
		if _, err := chromedp.Call(ctx, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			return err
		}
		got, err := chromedp.Call(ctx, runtime.GetHeapUsage, cdp.Empty{})
		used = got.UsedSize + got.EmbedderHeapUsedSize
		return err
	})
	return int64(used)
}

// addNode adds a host as a node with an API token, as its owner would under Settings > Nodes.
func (p *page) addNode(dc *sim.Datacenter, host *sim.Host, name string) {
	p.Helper()
	secret, err := dc.AddToken("root@pam", name, false, time.Time{})
	if err != nil {
		p.Fatal(err)
	}
	address, port, err := net.SplitHostPort(host.Address())
	if err != nil {
		p.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{
		"name": name, "host": address, "port": port, "fingerprint": host.Fingerprint(), "credential": "token",
		"tokenId": "root@pam!" + name, "tokenSecret": secret,
	})
	if err != nil {
		p.Fatal(err)
	}
	if got := eval[string](p, `fetch("/api/nodes", { method: "POST", headers: { "Content-Type": "application/json" }, body: `+quote(string(body))+` })
		.then(async (answer) => answer.ok ? "" : await answer.text())`); got != "" {
		p.Fatal(got)
	}
}

func row(vmid int) string { return fmt.Sprintf(`#rows tr[data-ref$="/%d"]`, vmid) }

func (p *page) untilStatus(vmid int, status string) {
	p.Helper()
	p.until(fmt.Sprintf("%d to be %s", vmid, status), `document.querySelector('`+row(vmid)+` .col-status')?.innerText.trim() === `+quote(status))
}

// What happens on a host appears on every open page, and takes nothing away from those who use them.
func TestLivePages(t *testing.T) {
	t.Parallel()
	dc, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	pages := []*page{open(t, b), open(t, b)}
	for _, p := range pages {
		p.goTo("/login")
		p.signIn(host, "root", "pam")
		p.untilStatus(102, "stopped")
	}
	for _, p := range pages {
		p.do(chromedp.Click(chromedp.CSS(row(104) + " [name=ref]")))
		p.focus(row(105) + " [data-menu]")
	}
	if err := dc.SetContainerStatus(102, sim.Running); err != nil {
		t.Fatal(err)
	}
	for i, p := range pages {
		p.untilStatus(102, "running")
		if got := eval[[]string](p, `[...document.querySelectorAll("[name=ref]:checked")].map((box) => box.value.split("/")[1])`); !slices.Equal(got, []string{"104"}) {
			t.Errorf("page %d: after the change %v are selected", i, got)
		}
		if !eval[bool](p, `document.activeElement === document.querySelector('`+row(105)+` [data-menu]')`) {
			t.Errorf("page %d: after the change the focus is at %s", i, p.focused())
		}
	}
}

// Under the pointer rows keep their places, whatever the order; once it is elsewhere they are in order again.
func TestRowsStayUnderThePointer(t *testing.T) {
	t.Parallel()
	p, dc, _ := dashboard(t, &clock{})
	p.goTo("/?sort=status")
	p.until("the list", `document.querySelector("#rows tr")`)
	point := func(selector string) {
		t.Helper()
		at := eval[[]float64](p, `(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector(`+quote(selector)+`).getBoundingClientRect())`)
		call(p, func(ctx context.Context) error {
			_, err := chromedp.Call(ctx, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseMoved, X: at[0], Y: at[1]})
			return err
		})
	}
	before := p.rows()
	point(row(101) + " .col-status")
	p.until("the pointer there", `document.querySelector('`+row(101)+`:hover')`)
	if err := dc.SetContainerStatus(102, sim.Running); err != nil {
		t.Fatal(err)
	}
	p.untilStatus(102, "running")
	if got := p.rows(); !slices.Equal(got, before) {
		t.Errorf("the rows moved under the pointer: %v, before %v", got, before)
	}
	point("#q")
	p.until("the order", rowsExpression+`.join() !== `+quote(strings.Join(before, ",")))
	statuses := eval[[]string](p, `[...document.querySelectorAll("#rows .col-status .status")].map((s) => s.innerText.trim())`)
	if !slices.IsSorted(statuses) {
		t.Errorf("not in order: %v", statuses)
	}
	places := eval[[]int](p, `[...document.querySelectorAll("#rows tr")].map((row) => Number(row.ariaRowIndex))`)
	if !slices.IsSorted(places) {
		t.Errorf("places %v", places)
	}
}

// Everything that a row offers can be reached and used with the keyboard alone.
func TestRowByKeyboard(t *testing.T) {
	t.Parallel()
	p, _, _ := dashboard(t, &clock{})
	action := func() string {
		return eval[string](p, `document.activeElement.dataset.action ?? document.activeElement.localName`)
	}

	p.focus(row(102) + " [data-menu]")
	p.press(kb.ArrowDown)
	p.until("a menu", `document.querySelector("#row-menu:popover-open")`)
	if got := action(); got != "start" {
		t.Errorf("the menu opens at %s", got)
	}
	p.press(kb.ArrowDown)
	p.press(kb.ArrowDown)
	p.press(kb.ArrowDown)
	if got := action(); got != "stop" {
		t.Errorf("three further down is %s", got)
	}
	if got := p.text("#row-menu [data-action=stop]"); !strings.Contains(got, "It is not running.") {
		t.Errorf("what can't be done says %q", got)
	}
	p.press(kb.Enter)
	if !eval[bool](p, `!document.querySelector("dialog[open]")`) {
		t.Error("what can't be done was done")
	}
	p.press("d")
	if got := action(); got != "delete" {
		t.Errorf("the letter d leads to %s", got)
	}
	p.press(kb.ArrowDown)
	if got := action(); got != "start" {
		t.Errorf("behind the last is %s", got)
	}
	p.press(kb.Escape)
	p.until("the focus back", `document.activeElement === document.querySelector('`+row(102)+` [data-menu]')`)

	p.press(kb.Enter)
	p.until("a menu", `document.querySelector("#row-menu:popover-open")`)
	p.press(kb.Enter)
	p.untilStatus(102, "running")

	p.focus(row(102) + " [data-action=shutdown]")
	p.press(kb.Enter)
	p.until("a dialog", `document.querySelector("#ask[open] form")`)
	for _, want := range []string{"jellyfin", "102", "pve1"} {
		if got := p.text("#ask"); !strings.Contains(got, want) {
			t.Errorf("the dialog does not name %s: %s", want, got)
		}
	}
	p.press(kb.Escape)
	p.until("no dialog", `!document.querySelector("dialog[open]")`)

	p.until("the start to be over", `!document.querySelector('`+row(102)+`').dataset.refused.includes("stop:")`)
	p.focus(row(102) + " [data-menu]")
	p.press(kb.Enter)
	for range 5 {
		if p.press("s"); action() == "stop" {
			break
		}
	}
	p.press(kb.Enter)
	p.until("a dialog", `document.querySelector("#ask[open] form")`)
	p.press(kb.Enter)
	p.untilStatus(102, "stopped")
}

// A change that was begun from the list does not keep anybody from the list: the dialog closes as soon as the host has taken it,
// and the row shows how it goes; what was started is said to be starting at once.
func TestRowShowsProgress(t *testing.T) {
	t.Parallel()
	p, dc, host := dashboard(t, &clock{})
	dc.HoldTasks(true)
	shows := func(vmid int, what string) {
		t.Helper()
		p.until(what, `document.querySelector('`+row(vmid)+` .col-status').innerText.includes(`+quote(what)+`)`)
	}
	p.click(row(101) + " [data-action=shutdown]")
	p.until("a dialog", `document.querySelector("#ask[open] form")`)
	p.click("#ask [type=submit]")
	p.until("no dialog", `!document.querySelector("dialog[open]")`)
	shows(101, "Shutting down")

	// Before the host has said anything.
	host.SetFault("POST", "/nodes/pve1/lxc/102/status", sim.Fault{Latency: 5 * time.Second})
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector('` + row(102) + ` [data-action=start]').click()`))
	if got := p.text(row(102) + " .col-status"); !strings.Contains(got, "Starting") || dc.Accepted(102, "start") != 0 {
		t.Errorf("right after the click it says %q", got)
	}
	dc.HoldTasks(false)
	p.untilStatus(101, "stopped")
	p.untilStatus(102, "running")
}

func TestSelection(t *testing.T) {
	t.Parallel()
	p, _, _ := dashboard(t, &clock{})
	count := func(text string) {
		t.Helper()
		p.until(text, `document.querySelector("[data-count]").textContent === `+quote(text))
	}
	p.click(row(101) + " [name=ref]")
	count("1 selected")
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector('` + row(104) + ` [name=ref]').dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, shiftKey: true }))`))
	count("4 selected")
	p.press("/")
	p.press("gateway")
	p.untilRows("100")
	count("4 selected")
	for range "gateway" {
		p.press(kb.Backspace)
	}
	p.until("all rows", `document.querySelectorAll("#rows tr").length > 10`)
	if n := eval[int](p, `document.querySelectorAll("[name=ref]:checked").length`); n != 4 {
		t.Errorf("%d rows are ticked", n)
	}
	p.click("[data-clear-selection]")
	p.until("no bar", `!document.querySelector(".bulk-on")`)
	p.click("#pick-all")
	count("15 selected")
	p.click("#pick-all")
	p.until("no bar", `!document.querySelector(".bulk-on")`)
}

// TestBulkRun stops many, with a result for each; the run stays in sight when the page is loaded anew.
func TestBulkRun(t *testing.T) {
	t.Parallel()
	p, _, _ := dashboard(t, &clock{})
	p.goTo("/?tag=family")
	p.until("the list", `document.querySelector("#rows tr")`)
	p.click("#pick-all")
	p.until("the bar", `document.querySelector(".bulk-on")`)
	p.click("[data-bulk=stop]")
	p.until("a dialog", `document.querySelector("#ask[open] form")`)
	if got := p.text("#ask"); !strings.Contains(got, "jellyfin") || !strings.Contains(got, "nextcloud") {
		t.Errorf("the dialog does not name the containers: %s", got)
	}
	p.press(kb.Enter)
	p.until("a panel", `!document.getElementById("run-panel").hidden`)
	p.reload()
	p.until("the end", `document.getElementById("run-panel")?.dataset.ended === "true"`)
	got := p.text("#run-panel")
	if !strings.Contains(got, "jellyfin (102)") || !strings.Contains(got, "It is not running.") || !strings.Contains(got, "nextcloud (101)") {
		t.Errorf("the panel says %s", got)
	}
	p.untilStatus(101, "stopped")
	p.click("[data-run=close]")
	p.until("no panel", `document.getElementById("run-panel").hidden`)
	// What failed has been seen there, and is no notice any more.
	p.until("no notice", `document.getElementById("notices").childElementCount === 0`)
	p.goTo("/tasks")
	if got := p.text("#notices"); got != "" {
		t.Errorf("seen already, and a notice again: %s", got)
	}
}

// TestRunPanelAndNotices: what fails in a run is told by its panel as long as that is open, and by a notice once it was closed
// before the end.
func TestRunPanelAndNotices(t *testing.T) {
	t.Parallel()
	p, dc, _ := dashboard(t, &clock{})
	dc.FailTasks("no space left", 101)
	dc.HoldTasks(true)
	p.goTo("/?tag=family")
	p.until("the list", `document.querySelector("#rows tr")`)
	run := func() {
		t.Helper()
		p.click(row(101) + " [name=ref]")
		p.until("the bar", `document.querySelector(".bulk-on")`)
		p.click("[data-bulk=reboot]")
		p.until("a dialog", `document.querySelector("#ask[open] form")`)
		p.press(kb.Enter)
		p.until("a panel", `!document.getElementById("run-panel").hidden`)
	}
	run()
	dc.HoldTasks(false)
	p.until("its end", `document.getElementById("run-panel").dataset.ended === "true" && document.querySelector("#run-panel").innerText.includes("no space left")`)
	asked := eval[int](p, `performance.getEntriesByName(new URL(document.getElementById("notices").dataset.live, location.href).href).length`)
	p.until("the notices asked for again", fmt.Sprintf(`performance.getEntriesByName(new URL(document.getElementById("notices").dataset.live, location.href).href).length > %d`, asked))
	if got := p.text("#notices"); got != "" {
		t.Errorf("told twice: %s", got)
	}
	p.click("[data-run=close]")
	p.until("no panel", `document.getElementById("run-panel").hidden`)

	dc.HoldTasks(true)
	run()
	p.click("[data-run=close]")
	dc.HoldTasks(false)
	p.until("the notice", `document.getElementById("notices").innerText.includes("no space left")`)
}

// The shape and the columns are remembered for the identity, in every browser.
func TestLayoutIsRemembered(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)
	p := open(t, b)
	p.goTo("/login")
	p.signIn(host, "root", "pam")
	p.click("#layout summary")
	p.click("#layout label:has([name=addresses])")
	p.until("a column more", `document.querySelector("th.col-addresses")`)
	p.click("#layout label:has([name=disk])")
	p.until("a column less", `!document.querySelector("th.col-disk")`)
	if !eval[bool](p, `document.querySelector("#layout").open`) {
		t.Error("the choice closes while one chooses")
	}
	other := open(t, b)
	other.goTo("/login")
	other.signIn(host, "root", "pam")
	other.until("the same columns", `document.querySelector("th.col-addresses") && !document.querySelector("th.col-disk")`)
	p.click("#layout label:has([value=cards])")
	p.until("cards", `document.querySelector(".list.cards")`)
}

// Without scripts the list comes page by page, and everything leads to a page.
func TestFleetWithoutScripts(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{Containers: 300})
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.signIn(host, "root", "pam")
	p.withoutScripts()
	p.goTo("/")
	first := p.rows()
	p.click("[rel=next]")
	p.untilPath("/?from=60")
	second := p.rows()
	if len(first) != 60 || len(second) != 60 || slices.Contains(second, first[59]) {
		t.Errorf("%d rows, and then %d", len(first), len(second))
	}
	p.click("[rel=prev]")
	p.untilPath("/")
	if got := p.rows(); !slices.Equal(got, first) {
		t.Errorf("back on the first page: %v", got)
	}
}
