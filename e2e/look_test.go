package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"berth/internal/pve/sim"
	"berth/internal/web"
)

// maxShift is how far a page may jump while it loads: its cumulative layout shift, as browsers measure it. Up to 0.1 is
// called good in general.
const maxShift = 0.02

// maxPicture is how much of a long page is in its picture, in CSS pixels.
const maxPicture = 1600

// screen is how a page is looked at.
type screen struct {
	name          string
	width, height int64
	phone         bool
	scheme        string
}

var screens = []screen{
	{"wide-light", 1280, 800, false, "light"},
	{"wide-dark", 1280, 800, false, "dark"},
	{"phone-light", 390, 844, true, "light"},
	{"phone-dark", 390, 844, true, "dark"},
}

// TestLook looks at every page in every state on every screen: nothing is cut off or needs scrolling sideways, nothing
// jumps while it loads, axe-core has nothing serious to say, and a picture is left for people.
func TestLook(t *testing.T) {
	t.Parallel()
	t.Run("axe-core", func(t *testing.T) {
		if _, err := axeSource(); err != nil {
			missing(t, "axe", "accessibility is not checked: axe-core is not there ("+err.Error()+"); npm ci in web/ gets it")
		}
	})
	for _, s := range []struct {
		name string
		// prepare opens a tab in the state, and returns what loads the page in it.
		prepare func(t *testing.T) (*page, func(p *page))
	}{
		{"login", func(t *testing.T) (*page, func(p *page)) {
			p, _, _ := stranger(t)
			return p, func(p *page) { p.goTo("/login") }
		}},
		{"login-errors", func(t *testing.T) (*page, func(p *page)) {
			p, _, _ := stranger(t)
			p.expect("POST /login 422")
			return p, func(p *page) {
				p.goTo("/login")
				p.fill("port", "65536")
				p.send(`[aria-invalid=true]`)
			}
		}},
		{"login-failure", func(t *testing.T) (*page, func(p *page)) {
			p, _, host := stranger(t)
			p.expect("POST /login 401")
			return p, func(p *page) {
				p.goTo("/login")
				p.fillSignIn(host, "alice", "pve", "not-her-password")
				p.send(`[role=alert]`)
			}
		}},
		{"login-confirm", func(t *testing.T) (*page, func(p *page)) {
			_, host := proxmox(t, sim.Options{})
			p := open(t, inProcess(t, &clock{}))
			p.expect("POST /login 409")
			return p, func(p *page) {
				p.goTo("/login")
				p.fillSignIn(host, "alice", "pve", sim.DefaultPassword)
				p.send(`[name=fingerprint]`)
			}
		}},
		{"login-changed", func(t *testing.T) (*page, func(p *page)) {
			p, _, host := stranger(t)
			if err := host.ChangeCertificate(false); err != nil {
				t.Fatal(err)
			}
			p.expect("POST /login 401")
			return p, func(p *page) {
				p.goTo("/login")
				p.fillSignIn(host, "alice", "pve", sim.DefaultPassword)
				p.send(`[role=alert]`)
			}
		}},
		{"login-insecure", func(t *testing.T) (*page, func(p *page)) {
			// Berth knows nothing of this proxy, so it takes the way before it for one without encryption.
			p, _, _ := stranger(t)
			p.extraHeader("X-Forwarded-For", "192.0.2.7")
			return p, func(p *page) {
				p.goTo("/login")
				p.until("a warning", `document.body.innerText.includes("not encrypted")`)
			}
		}},
		{"login-signed-out", func(t *testing.T) (*page, func(p *page)) {
			p, _, _ := stranger(t)
			return p, func(p *page) { p.goTo("/login?signed-out") }
		}},
		{"second-factor", func(t *testing.T) (*page, func(p *page)) {
			p, _, host := stranger(t)
			return p, func(p *page) {
				p.goTo("/login")
				p.fillSignIn(host, "bob", "pve", sim.DefaultPassword)
				p.send(`[name=code]`)
			}
		}},
		{"second-factor-failure", func(t *testing.T) (*page, func(p *page)) {
			p, _, host := stranger(t)
			p.expect("POST /login/tfa 401")
			return p, func(p *page) {
				p.goTo("/login")
				p.fillSignIn(host, "bob", "pve", sim.DefaultPassword)
				p.send(`[name=code]`)
				p.fill("code", "not-a-code") // no six digits, so it does not count towards locking bob's TOTP
				p.send(`[role=alert]`)
			}
		}},
		{"second-factor-key", func(t *testing.T) (*page, func(p *page)) {
			p, dc, host := stranger(t)
			if err := dc.AddUser(sim.User{ID: "gina@pve", Password: sim.DefaultPassword, SecurityKey: true}); err != nil {
				t.Fatal(err)
			}
			return p, func(p *page) {
				p.goTo("/login")
				p.fillSignIn(host, "gina", "pve", sim.DefaultPassword)
				p.send(`.notice-warn`)
			}
		}},
		{"containers-0", func(t *testing.T) (*page, func(p *page)) {
			return containers(t, sim.Options{Empty: true}, "root", "pam", "/")
		}},
		{"containers-2", func(t *testing.T) (*page, func(p *page)) {
			return containers(t, sim.Options{}, "alice", "pve", "/")
		}},
		{"containers-15", func(t *testing.T) (*page, func(p *page)) {
			return containers(t, sim.Options{Name: "harbour", Members: []string{"pve1", "pve2"}}, "root", "pam", "/")
		}},
		{"containers-300", func(t *testing.T) (*page, func(p *page)) {
			return containers(t, sim.Options{Containers: 300}, "root", "pam", "/?sort=-disk")
		}},
		{"containers-no-match", func(t *testing.T) (*page, func(p *page)) {
			return containers(t, sim.Options{}, "root", "pam", "/?q=no-such-thing&status=running")
		}},
		{"containers-host-down", func(t *testing.T) (*page, func(p *page)) {
			now := &clock{}
			p, dc, host := dashboard(t, now)
			return p, func(p *page) {
				if err := dc.StopMember(host.Member()); err != nil {
					t.Fatal(err)
				}
				now.advance(3 * time.Minute)
				p.goTo("/")
				p.until("a banner", `document.querySelector("#containers [role=alert]")`)
				for range 2 { // what is told as soon as it is known may come late, at each replica
					p.goTo("/")
					p.until("a banner", `document.querySelector("#containers [role=alert]")`)
				}
			}
		}},
		{"containers-never-read", func(t *testing.T) (*page, func(p *page)) {
			_, host := proxmox(t, sim.Options{})
			host.SetFault("GET", "/cluster/resources", sim.Fault{Status: 500, Reason: "got no worker"})
			p := open(t, inProcess(t, &clock{}, host))
			p.goTo("/login")
			p.signIn(host, "root", "pam")
			return p, func(p *page) {
				p.goTo("/")
				p.until("a banner", `document.querySelector("#containers [role=alert]")`)
			}
		}},
		{"fleet-one-node-down", func(t *testing.T) (*page, func(p *page)) {
			p, _, load := fleet(t, 1)
			return p, func(p *page) {
				load(p)
				// How old a row is stands beside its name, whatever that is, and never over it.
				if over := eval[[]string](p, `[...document.querySelectorAll("#rows tr:has(.last-known)")].flatMap((row) => {
					const name = row.querySelector(".name"), shown = name.textContent;
					name.textContent = "a-name-as-long-as-people-give-them";
					const [left, right] = [name, row.querySelector(".col-status")].map((e) => e.getBoundingClientRect());
					name.textContent = shown;
					return left.right > right.left && left.bottom > right.top && left.top < right.bottom ? [shown] : [];
				})`); len(over) > 0 {
					p.Errorf("the status lies over the names of %v", over)
				}
			}
		}},
		{"fleet-all-nodes-down", func(t *testing.T) (*page, func(p *page)) {
			p, _, load := fleet(t, 2)
			return p, load
		}},
		{"fleet-no-nodes", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "root", "pam", "/")
			if got := eval[int](p, `fetch("/api/nodes").then((answer) => answer.json())
				.then(({ items }) => fetch("/api/nodes/" + items[0].id, { method: "DELETE" })).then(({ status }) => status)`); got != 200 {
				t.Fatalf("removing the node: %d", got)
			}
			return p, load
		}},
		{"fleet-selection", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "root", "pam", "/?kind=all")
			return p, func(p *page) {
				load(p)
				for _, vmid := range []int{101, 102, 105} {
					p.click(row(vmid) + " [name=ref]")
				}
				p.until("the bar", `document.querySelector(".bulk-on")`)
			}
		}},
		{"fleet-menu", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "root", "pam", "/")
			return p, func(p *page) {
				load(p)
				p.click(row(101) + " [data-menu]")
				p.until("a menu", `document.querySelector("#row-menu:popover-open")`)
			}
		}},
		{"fleet-columns", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "root", "pam", "/")
			return p, func(p *page) {
				load(p)
				p.click("#layout summary")
			}
		}},
		{"fleet-delete", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "root", "pam", "/")
			return p, func(p *page) {
				load(p)
				p.click(row(102) + " [data-menu]")
				p.click("#row-menu [data-action=delete]")
				p.until("a dialog", `document.querySelector("#ask[open] form")`)
			}
		}},
		{"fleet-run", func(t *testing.T) (*page, func(p *page)) {
			now := &clock{}
			p, dc, _ := dashboard(t, now)
			return p, func(p *page) {
				// The screen before leaves its run, whose result would be taken for this one's, and a container that runs:
				// what all refuse can't be chosen.
				p.goTo("/")
				p.do(chromedp.Evaluate[chromedp.Void](`sessionStorage.removeItem("bulk-run")`))
				if err := dc.SetContainerStatus(102, sim.Stopped); err != nil {
					p.Fatal(err)
				}
				now.advance(time.Minute)
				p.goTo("/?tag=family")
				p.untilStatus(102, "stopped")
				p.click("#pick-all")
				p.until("the bar", `document.querySelector(".bulk-on")`)
				p.click("[data-bulk=start]")
				p.until("a dialog", `document.querySelector("#ask[open] form")`)
				p.press(kb.Enter)
				p.until("a result", `document.getElementById("run-panel").dataset.ended === "true"`)
			}
		}},
		{"fleet-cards", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "root", "pam", "/")
			eval[int](p, `fetch("/layout", { method: "POST", body: new URLSearchParams({ shape: "cards", vmid: 1, node: 1, cpu: 1, mem: 1, disk: 1, netin: 1, uptime: 1, tags: 1, addresses: 1 }) }).then(({ status }) => status)`)
			return p, load
		}},
		{"signed-out-dialog", func(t *testing.T) (*page, func(p *page)) {
			p, _, host := stranger(t)
			p.allowSessionEnd()
			return p, func(p *page) {
				p.goTo("/login")
				p.signIn(host, "root", "pam")
				p.cookiesGone()
				p.later(time.Minute)
				p.until("a word about it", `document.querySelector("dialog[open]")`)
			}
		}},
		{"problem-404", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "alice", "pve", "/no/such/page")
			p.expect("GET /no/such/page 404")
			return p, load
		}},
		{"problem-404-stranger", func(t *testing.T) (*page, func(p *page)) {
			p, _, _ := stranger(t)
			p.expect("GET /static/nothing.css 404")
			return p, func(p *page) { p.goTo("/static/nothing.css") }
		}},
		{"problem-500", func(t *testing.T) (*page, func(p *page)) {
			p := open(t, &berth{url: outOfOrder(t)})
			p.expect("GET /out-of-order 500")
			return p, func(p *page) {
				p.goTo("/out-of-order")
				p.until("the error id", `document.querySelector(".problem code")?.textContent.length > 5`)
			}
		}},
		{"audit-bad-filter", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "root", "pam", "/settings/audit?from=2026-13-01&action=sign_in")
			p.expect("GET /settings/audit 422")
			return p, load
		}},
		{"audit-filtered", func(t *testing.T) (*page, func(p *page)) {
			p, load := containers(t, sim.Options{}, "root", "pam", "/settings/audit?q=root")
			return p, func(p *page) {
				load(p)
				p.until("the entries", `document.querySelector(".audit")`)
			}
		}},
		{"problem-403", func(t *testing.T) (*page, func(p *page)) {
			p, _, _ := stranger(t)
			elsewhere := otherSite(t, p.base+"/login")
			p.expect("POST /login 403")
			return p, func(p *page) {
				p.do(chromedp.Navigate(elsewhere), chromedp.Click(chromedp.CSS("button")))
				p.until("the refusal", `document.title.includes("Berth")`)
			}
		}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p, load := s.prepare(t)
			// The rows of 300 containers are like those of 15, and axe-core takes long over many.
			p.look(t, s.name, s.name != "containers-300", load)
		})
	}
}

// TestLookAround looks at every page that the navigation leads to, also those that are new.
func TestLookAround(t *testing.T) {
	t.Parallel()
	p, _ := containers(t, sim.Options{}, "root", "pam", "/")
	paths := eval[[]string](p, `[...document.querySelectorAll("nav[aria-label=Main] a")].map((a) => a.pathname).filter((path) => path !== "/")`)
	for _, path := range paths {
		name := strings.ReplaceAll(strings.Trim(path, "/"), "/", "-")
		t.Run(name, func(t *testing.T) {
			p.in(t).look(t, name, true, func(p *page) {
				p.goTo(path)
				p.until("its own name in the navigation", `(() => {
					const name = document.querySelector(".rail [aria-current=page]").getBoundingClientRect();
					return name.left >= 0 && name.right <= innerWidth;
				})()`)
			})
		})
	}
}

// TestLookAtUnknownHost looks at the page under a name that is not Berth's, where a browser gets nothing else. What it
// complains about there is not judged.
func TestLookAtUnknownHost(t *testing.T) {
	t.Parallel()
	p, _, _ := stranger(t)
	tab := openLoose(t, p)
	address := strings.Replace(p.base, "127.0.0.1", strangeSite, 1)
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			p := tab.in(t)
			p.lookAt(screen)
			p.do(chromedp.Navigate(address))
			p.until("the page in its design", `getComputedStyle(document.querySelector(".pier")).overflow === "hidden"`)
			p.untilStill()
			if scrolls := eval[int64](p, `document.scrollingElement.scrollWidth`); scrolls > screen.width {
				t.Errorf("the page is %d pixels wide, the screen %d: %s", scrolls, screen.width, p.tooWide(screen.width))
			}
			p.picture("problem-421-" + screen.name)
		})
	}
}

// look loads a page on every screen and judges what there is to see.
func (p *page) look(t *testing.T, name string, accessible bool, load func(p *page)) {
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			p := p.in(t)
			p.do(chromedp.Navigate("about:blank")) // laying out what is there for another screen is lost time
			p.lookAt(screen)
			load(p)
			p.untilStill()
			if scrolls := eval[int64](p, `document.scrollingElement.scrollWidth`); scrolls > screen.width {
				t.Errorf("the page is %d pixels wide, the screen %d: %s", scrolls, screen.width, p.tooWide(screen.width))
			}
			if shift := eval[float64](p, `window.berthTest.shift`); shift >= maxShift {
				t.Errorf("the page jumps by %.3f while it loads, at most %.3f: %s", shift, maxShift, eval[string](p, `window.berthTest.moved.join("; ")`))
			}
			p.picture(name + "-" + screen.name)
			if accessible {
				p.checkAccessibility()
			}
		})
	}
}

// stranger opens a tab without a session, for a Berth that knows one host.
func stranger(t *testing.T) (*page, *sim.Datacenter, *sim.Host) {
	t.Helper()
	dc, host := proxmox(t, sim.Options{})
	return open(t, inProcess(t, &clock{}, host)), dc, host
}

// outOfOrder is the address of a site with one page more, /out-of-order, which only fails.
func outOfOrder(t *testing.T) string {
	t.Helper()
	site := web.NewSite(web.Options{Now: time.Now})
	fails := web.PublicRoute("GET", "/out-of-order", web.Page, func(http.ResponseWriter, *http.Request) error {
		return errors.New("the page is out of order")
	})
	server := httptest.NewServer(site.Handler(append(site.Routes(), fails)))
	t.Cleanup(server.Close)
	return server.URL
}

// containers signs in at a host and returns what loads a page.
func containers(t *testing.T, o sim.Options, user, realm, path string) (*page, func(p *page)) {
	t.Helper()
	dc, host := proxmox(t, o)
	if o.Empty {
		if err := dc.AddUser(sim.User{ID: user + "@" + realm, Password: sim.DefaultPassword}); err != nil {
			t.Fatal(err)
		}
	}
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/login")
	p.signIn(host, user, realm)
	return p, func(p *page) { p.goTo(path) }
}

// fleet signs in with two nodes, of which so many are down from the second loading on.
func fleet(t *testing.T, down int) (*page, *clock, func(p *page)) {
	t.Helper()
	now := &clock{}
	dc, host := proxmox(t, sim.Options{Now: now.now})
	attic, second := proxmox(t, sim.Options{Now: now.now, Name: "attic", Members: []string{"pve8", "pve9"}, Seed: 7})
	p := open(t, inProcess(t, now, host))
	p.goTo("/login")
	p.signIn(host, "root", "pam")
	p.addNode(attic, second, "attic")
	p.goTo("/")
	p.until("both nodes", `document.querySelectorAll("#rows tr").length >= 30`)
	if err := attic.StopMember(second.Member()); err != nil {
		t.Fatal(err)
	}
	if down > 1 {
		if err := dc.StopMember(host.Member()); err != nil {
			t.Fatal(err)
		}
	}
	return p, now, func(p *page) {
		now.advance(4 * time.Minute)
		p.goTo("/")
		p.until("a banner", `document.querySelector("#containers [role=alert]")`)
		for range 2 { // what is told as soon as it is known may come late, at each replica
			p.goTo("/")
			p.until("a banner", `document.querySelector("#containers [role=alert]")`)
		}
	}
}

// otherSite is a page of another origin with a form that posts to this one.
func otherSite(t *testing.T, action string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><link rel="icon" href="data:,"><form method="post" action="%s"><button>Win a prize</button></form>`, action)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// send posts the sign-in form as a browser does by itself, so that the answer is a page that loads, and waits for it.
func (p *page) send(selector string) {
	p.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](`window.berthTest.left = true; document.querySelector("#signin form").submit()`))
	p.until("the answer", `!window.berthTest.left && document.readyState === "complete" && document.querySelector(`+quote("#signin "+selector)+`)`)
}

// extraHeader adds a header to everything that the tab asks for from now on.
func (p *page) extraHeader(name, value string) {
	p.Helper()
	call(p, func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{name: value}})
		return err
	})
}

// cookiesGone makes the browser forget its cookies, the session with them.
func (p *page) cookiesGone() {
	p.Helper()
	call(p, func(ctx context.Context) error {
		_, err := chromedp.CallBrowser(ctx, storage.ClearCookies, storage.ClearCookiesParams{BrowserContextID: chromedp.FromContext(ctx).BrowserContextID})
		return err
	})
}

// lookAt makes the tab a screen.
func (p *page) lookAt(s screen) {
	p.Helper()
	options := []chromedp.EmulateViewportOption{chromedp.EmulateScale(1)}
	if s.phone {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	p.do(chromedp.EmulateViewport(s.width, s.height, options...))
	prefer(p, s.scheme)
}

// untilStill waits for fonts, for two frames after them, and for what has begun to move by then.
func (p *page) untilStill() {
	p.Helper()
	p.until("the page loaded", `document.readyState === "complete"`)
	eval[bool](p, `(async () => {
		await document.fonts.ready;
		for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
		await Promise.allSettled(document.getAnimations().map((a) => a.finished));
		return true;
	})()`)
}

// tooWide names what reaches beyond the width of the screen.
func (p *page) tooWide(width int64) string {
	p.Helper()
	return eval[string](p, fmt.Sprintf(`[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > %d)
		.map((e) => e.localName + (e.id && "#" + e.id) + [...e.classList].map((c) => "." + c).join("")).slice(0, 5).join(" ")`, width))
}

// picture leaves a picture of the page for people to look at.
func (p *page) picture(name string) {
	p.Helper()
	// What lies over a page covers as much of it as the screen shows.
	size := eval[[]float64](p, `[innerWidth, document.querySelector("dialog[open]") ? innerHeight : document.scrollingElement.scrollHeight]`)
	yes := true
	var shot []byte
	call(p, func(ctx context.Context) error {
		got, err := chromedp.Call(ctx, cdpage.CaptureScreenshot, cdpage.CaptureScreenshotParams{
			Clip:                  &cdpage.Viewport{Width: size[0], Height: min(size[1], maxPicture), Scale: 1},
			CaptureBeyondViewport: &yes,
			OptimizeForSpeed:      &yes,
		})
		shot = got.Data
		return err
	})
	if err := errors.Join(os.MkdirAll(picturesFolder, 0o755), os.WriteFile(filepath.Join(picturesFolder, name+".png"), shot, 0o644)); err != nil {
		p.Error(err)
	}
}

// axeFile is axe-core where npm puts it.
var axeFile = filepath.Join("..", "web", "node_modules", "axe-core", "axe.min.js")

var axeSource = sync.OnceValues(func() (string, error) {
	source, err := os.ReadFile(axeFile)
	return string(source), err
})

// checkAccessibility has axe-core check the page, if it is there: nothing serious, contrast included.
func (p *page) checkAccessibility() {
	p.Helper()
	source, err := axeSource()
	if err != nil {
		return // TestLook/axe-core has said so
	}
	p.do(chromedp.Evaluate[chromedp.Void](source))
	found := eval[json.RawMessage](p, `axe.run(document, {resultTypes: ["violations"], preload: false}).then(({violations}) => violations)`)
	var violations []struct {
		ID, Impact, Help string
		Nodes            []struct {
			HTML           string
			FailureSummary string
		}
	}
	if err := json.Unmarshal(found, &violations); err != nil {
		p.Fatal(err)
	}
	for _, v := range violations {
		say := p.Logf
		if v.Impact == "serious" || v.Impact == "critical" {
			say = p.Errorf
		}
		var where []string
		for _, n := range v.Nodes[:min(3, len(v.Nodes))] {
			where = append(where, n.HTML+"\n      "+strings.ReplaceAll(n.FailureSummary, "\n", " "))
		}
		say("axe: %s (%s), %d times: %s\n    %s", v.ID, v.Impact, len(v.Nodes), v.Help, strings.Join(where, "\n    "))
	}
}
