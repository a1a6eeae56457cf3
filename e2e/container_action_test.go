package e2e

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestActionsOnTheContainersOwnPage: what asks first asks in a dialog over the page, as it does over the list, and one stays where
// one is. A failure is told once.
func TestActionsOnTheContainersOwnPage(t *testing.T) {
	t.Parallel()
	p, dc, _, node := lifecycle(t, nil)
	own := "/containers/" + node + "/101"
	choose := func(action string) {
		t.Helper()
		p.until(action+" to be offered", `document.querySelector(".container-actions a[href$='/`+action+`']")`)
		p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".more-actions").open = true`))
		p.click(".container-actions a[href$='/" + action + "']")
		p.until("a dialog", `document.querySelector("#ask[open] form")`)
		if text := p.text("#ask"); !strings.Contains(text, "nextcloud") || !strings.Contains(text, "pve1") {
			t.Errorf("the dialog of %s: %q", action, text)
		}
	}
	stays := func(path string) {
		t.Helper()
		if got := eval[string](p, `location.pathname`); got != path {
			t.Errorf("at %s, not at %s", got, path)
		}
	}
	const why = "lxc-checkpoint"

	p.goTo(own)
	choose("suspend")
	p.click("#ask [data-close]")
	p.until("it to close", `!document.querySelector("#ask").open`)
	if dc.Accepted(101, "suspend") != 0 {
		t.Error("it was suspended though nobody said so")
	}
	choose("suspend")
	p.click("#ask [type=submit]")
	p.until("the failure", `!document.querySelector("#ask").open && document.querySelector("#notices").innerText.includes("`+why+`")`)
	stays(own)
	if n := eval[int](p, `document.querySelectorAll("#notices .notice").length`); n != 1 {
		t.Errorf("told by %d notices", n)
	}
	p.click("#notices button")
	p.until("it is gone", `document.querySelector("#notices").innerText === ""`)

	choose("stop")
	p.click("#ask [type=submit]")
	p.until("it to have stopped", `!document.querySelector("#ask").open && document.querySelector("#live .status").innerText.includes("stopped")`)
	stays(own)
	if n := dc.Accepted(101, "stop"); n != 1 {
		t.Errorf("stopped %d times", n)
	}

	// What is deleted has no page to stay on.
	p.expect("POST " + own + "/delete 422")
	choose("delete")
	p.fill("confirm", "mine")
	p.click("#ask [type=submit]")
	p.until("what is wrong", `document.querySelector("#ask #confirm-error")?.innerText.includes("That is not its name")`)
	p.fill("confirm", "nextcloud")
	p.click("#ask [type=submit]")
	p.until("what became of it", `location.pathname.startsWith("/operations/") && document.querySelector("#change-title")?.innerText.includes("was deleted")`)

	// The page that asks, by itself, leads to the page of the change: the reason stands there and in the log, in no notice beside.
	p.goTo("/containers/" + node + "/103/suspend")
	p.click("#change [type=submit]")
	p.until("the failure", `location.pathname.startsWith("/operations/") && document.querySelector("#change [role=alert]")?.innerText.includes("`+why+`")`)
	p.until("its log", logged+`.some((line) => line.startsWith("TASK ERROR"))`)
	if n := eval[int](p, `[...document.querySelectorAll("#notices .notice, [role=alert]")].filter((e) => e.innerText.includes("`+why+`")).length`); n != 1 {
		t.Errorf("told %d times: %q", n, eval[string](p, `document.body.innerText`))
	}
}

// A page whose container was deleted elsewhere says so, instead of showing for ever what was last known.
func TestContainerDeletedElsewhere(t *testing.T) {
	t.Parallel()
	p, dc, _, node := lifecycle(t, nil)
	own := "/containers/" + node + "/102"
	p.goTo(own)
	p.expectAny("GET " + own + " 404")
	if _, err := dc.ChangeContainer("root@pam", 102, "delete"); err != nil {
		t.Fatal(err)
	}
	p.until("that it is gone", `document.querySelector("#connection").innerText.includes("not there any more")`)
}
