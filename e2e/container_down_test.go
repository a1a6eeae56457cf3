package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestContainerOfANodeThatIsDown: its page says once why, how old it is and where to go on, and offers nothing.
func TestContainerOfANodeThatIsDown(t *testing.T) {
	t.Parallel()
	now := &clock{}
	p, dc, host := dashboard(t, now)
	path := "/containers/" + p.node() + "/101"
	load := func(p *page) {
		p.goTo(path)
		p.until("why", `document.querySelector("#live [role=alert]")`)
	}
	if err := dc.StopMember(host.Member()); err != nil {
		t.Fatal(err)
	}
	now.advance(4 * time.Minute)
	p.until("the list to know", `fetch("/api/containers").then((r) => r.json()).then((list) => list.nodes[0].problem)`)
	p.goTo("/")
	p.until("a greyed row", `document.querySelector('`+row(101)+`[data-stale] .last-known')`)
	if got := eval[string](p, `[...document.querySelectorAll('`+row(101)+` .last-known > *')].filter((part) => part.offsetWidth > 30).map((part) => part.innerText).join(", ")`); got != "last known, 4 minutes ago" {
		t.Errorf("the row shows %q", got)
	}
	load(p)
	if got := p.text(".container-line"); !strings.Contains(got, "last known 4 minutes ago") {
		t.Errorf("the head says %q", got)
	}
	if n := strings.Count(p.text("main"), "doesn't answer"); n != 1 {
		t.Errorf("the reason is said %d times", n)
	}
	if n := eval[int](p, `document.querySelectorAll('#live [role=alert] a[href*="/settings/nodes/"]').length`); n != 1 {
		t.Errorf("%d ways to the node's settings", n)
	}
	if got := eval[string](p, `[...document.querySelectorAll(".container-actions button:enabled, .container-actions a")].map((b) => b.innerText).join()`); got != "" {
		t.Errorf("it offers %s", got)
	}
	p.look(t, "container-node-down", true, load)

	if err := dc.StartMember(host.Member()); err != nil {
		t.Fatal(err)
	}
	now.advance(time.Minute)
	p.lookAt(screens[0])
	p.goTo(path)
	p.until("it to be current", `!document.querySelector("#live [role=alert], .last-known") && document.querySelector(".container-actions a")`)
}
