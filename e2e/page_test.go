package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience is how long a page gets until a condition holds. A refused sign-in alone takes 3.5 s, and the machine may be
// busy with other tests.
const patience = 40 * time.Second

// instruments run in every page before its own scripts: they add up layout shifts and note what moved, report violations
// of the content security policy, and let the page's clock be moved.
const instruments = `
	window.berthTest = { shift: 0, moved: [], ahead: 0, chosen: -Infinity };
	new PerformanceObserver((list) => {
		for (const entry of list.getEntries()) {
			if (entry.hadRecentInput || (entry.startTime >= berthTest.chosen && entry.startTime < berthTest.chosen + 500)) continue;
			window.berthTest.shift += entry.value;
			for (const { node, previousRect: was, currentRect: is } of entry.sources) {
				const name = (node?.nodeType === Node.TEXT_NODE ? node.parentElement : node)?.outerHTML?.slice(0, 60);
				window.berthTest.moved.push([was.x, was.y, was.width, was.height] + " to " + [is.x, is.y, is.width, is.height] + ": " + name);
			}
		}
	}).observe({ type: "layout-shift", buffered: true });
	document.addEventListener("securitypolicyviolation", (e) => {
		console.error("content security policy: " + e.violatedDirective + " forbids " + e.blockedURI);
	});
	const realNow = Date.now.bind(Date);
	Date.now = () => realNow() + window.berthTest.ahead;
`

// page is one tab in a browser profile of its own. Whatever goes wrong in it fails the test at its end: an uncaught
// exception, a console.error, a violation of the content security policy, a failed request.
type page struct {
	testing.TB
	*tab
}

type tab struct {
	ctx  context.Context
	base string

	mu         sync.Mutex
	requests   map[network.RequestID]string // method and path
	complaints []string
	expected   map[string]int // by the beginning of a complaint: how often it came
	anyOf      []anyOf
}

// anyOf are beginnings of complaints, each of which may come; at least one has to, unless optional.
type anyOf struct {
	complaints []string
	came       int
	optional   bool
}

// open opens an empty tab for a Berth.
func open(t testing.TB, b *berth) *page {
	t.Helper()
	tab := &tab{base: b.url, requests: map[network.RequestID]string{}, expected: map[string]int{}}
	p := &page{t, tab}
	ctx, cancel := chromedp.NewContext(browser(t), chromedp.WithNewBrowserContext(), chromedp.WithListener(tab.watch))
	tab.ctx = ctx
	t.Cleanup(func() {
		p.judge()
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	call(p, func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, cdpage.AddScriptToEvaluateOnNewDocument, cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: instruments})
		return err
	})
	return p
}

// in is the same tab for a subtest.
func (p *page) in(t testing.TB) *page { return &page{t, p.tab} }

// watch collects complaints. chromedp calls it from the loop that reads the browser's messages.
func (t *tab) watch(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		what := e.ExceptionDetails.Text
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			what += " " + thrown.Description
		}
		t.complain("uncaught exception: %s (%s:%d)", what, e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber+1)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var words []string
			for _, a := range e.Args {
				words = append(words, strings.Trim(string(a.Value), `"`)+a.Description)
			}
			t.complain("console.%s: %s", e.Type, strings.Join(words, " "))
		}
	case *log.EventEntryAdded:
		// What the network reports here is judged as requests below.
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			t.complain("%s: %s", e.Entry.Source, e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		path := e.Request.URL
		if u, err := url.Parse(path); err == nil && strings.HasPrefix(path, t.base) {
			path = u.Path
		}
		t.requests[e.RequestID] = e.Request.Method + " " + path
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			t.complain("%s %d", t.requests[e.RequestID], e.Response.Status)
		}
	case *network.EventLoadingFailed:
		// A page that is left, and a search that is typed on, cancel what was on its way.
		if !e.Canceled && e.ErrorText != "net::ERR_ABORTED" {
			t.complain("%s %s", t.requests[e.RequestID], e.ErrorText)
		}
	}
}

func (t *tab) complain(format string, args ...any) {
	complaint := fmt.Sprintf(format, args...)
	for what := range t.expected {
		if strings.HasPrefix(complaint, what) {
			t.expected[what]++
			return
		}
	}
	for i := range t.anyOf {
		if slices.ContainsFunc(t.anyOf[i].complaints, func(what string) bool { return strings.HasPrefix(complaint, what) }) {
			t.anyOf[i].came++
			return
		}
	}
	t.complaints = append(t.complaints, complaint)
}

// expect says that something will go wrong, as in "POST /login 401" or "console.error: what it begins with". The test
// fails if it does not.
func (p *page) expect(complaints ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range complaints {
		if _, ok := p.expected[c]; !ok {
			p.expected[c] = 0
		}
	}
}

// expectAny says that at least one of these will go wrong, in the words of expect: which of a page's requests meets what is
// wrong is a matter of timing. The test fails if none does.
func (p *page) expectAny(complaints ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.anyOf = append(p.anyOf, anyOf{complaints: complaints})
}

// allowSessionEnd allows whichever request learns that the session has ended to be refused. None has to: an open event stream
// may bring the news, or a request that is led to the sign-in page. That the page says so is for the test to look at.
func (p *page) allowSessionEnd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.anyOf = append(p.anyOf, anyOf{optional: true, complaints: sessionEnd})
}

// signOut presses the button, and waits for the page that comes then.
func (p *page) signOut() {
	p.Helper()
	p.signOutBy(func() { p.click(`form[action="/logout"] button`) })
}

// signOutBy is signOut by something else. What the page before still asks for may be refused: its event stream, at whatever program
// that is, may end sooner than the next page comes.
func (p *page) signOutBy(do func()) {
	p.Helper()
	p.allowSessionEnd()
	do()
	p.untilPath("/login?signed-out")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.anyOf = p.anyOf[:len(p.anyOf)-1]
}

// sessionEnd is how a page's requests learn that the session has ended.
var sessionEnd = []string{"GET / 401", "GET /api/events 401", "GET /api/auth/session 401", "GET /tasks/glance 401"}

func (p *page) judge() {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.complaints {
		p.Error(c)
	}
	for what, times := range p.expected {
		if times == 0 && !p.Failed() {
			p.Errorf("expected to go wrong, and did not: %s", what)
		}
	}
	for _, group := range p.anyOf {
		if group.came == 0 && !group.optional && !p.Failed() {
			p.Errorf("one of these was expected to go wrong, and none did: %s", strings.Join(group.complaints, ", "))
		}
	}
}

// call runs something in the tab and gives it a limited time.
func call(p *page, f func(ctx context.Context) error) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := f(ctx); err != nil {
		p.fatal(err)
	}
}

// fatal ends the test with what the page looks like.
func (p *page) fatal(reason any) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	seen, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body?.innerText ?? "").slice(0, 800)`))
	if err != nil {
		seen = err.Error()
	}
	p.Fatalf("%v\nthe page: %s", reason, seen)
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	call(p, func(ctx context.Context) error { return chromedp.Do(ctx, actions...) })
}

// goTo loads a page of the site.
func (p *page) goTo(path string) {
	p.Helper()
	p.do(chromedp.Navigate(p.base + path))
}

// reload loads the page anew.
func (p *page) reload() {
	p.Helper()
	p.do(chromedp.Reload())
}

// eval is the value of a JavaScript expression, which may be a promise.
func eval[T any](p *page, expression string) T {
	p.Helper()
	var value T
	call(p, func(ctx context.Context) (err error) {
		value, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		return err
	})
	return value
}

// until waits for a JavaScript expression to become true, across any number of page loads.
func (p *page) until(what, expression string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		// An error means that the page is being replaced, or that the expression looks for what isn't there yet.
		yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && yes {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			p.fatal(fmt.Sprintf("in vain: %s (%s): %v", what, expression, err))
		}
	}
}

// untilPath waits for the browser to be at a path of the site, its query included, with the page loaded.
func (p *page) untilPath(path string) {
	p.Helper()
	p.until("at "+path, `document.readyState === "complete" && location.href === `+quote(p.base+path))
}

// fill types into the field of a name.
func (p *page) fill(name, text string) {
	p.Helper()
	p.focus(`[name=` + name + `]:not([type=hidden])`)
	p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, input.InsertText, input.InsertTextParams{Text: text})
		return err
	}))
}

// focus puts the focus on an element, with its text selected so that typing replaces it.
func (p *page) focus(selector string) {
	p.Helper()
	p.until("the focus at "+selector, `(() => {
		const e = document.querySelector(`+quote(selector)+`);
		if (!e) return false;
		e.focus();
		e.value = "";
		return document.activeElement === e;
	})()`)
}

// choose chooses an option of the select of a name.
func (p *page) choose(name, value string) {
	p.Helper()
	eval[float64](p, `window.berthTest.chosen = performance.now()`)
	p.do(chromedp.SetValue(chromedp.CSS("select[name="+name+"]"), value))
}

// click clicks on the visible element of a selector.
func (p *page) click(selector string) {
	p.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// press presses keys, one after the other, wherever the focus is. A key that the page has taken for itself types nothing,
// as with a real keyboard: its text is part of the key going down, not an event of its own as chromedp sends it.
func (p *page) press(keys string) {
	p.Helper()
	call(p, func(ctx context.Context) error {
		for _, r := range keys {
			var text string
			events := kb.Encode(r)
			for _, e := range events {
				if e.Type == input.DispatchKeyEventTypeChar {
					text = e.Text
				}
			}
			for _, e := range events {
				switch e.Type {
				case input.DispatchKeyEventTypeChar:
					continue
				case input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeRawKeyDown:
					e.Type, e.Text = input.DispatchKeyEventTypeKeyDown, text
				}
				if _, err := chromedp.Call(ctx, input.DispatchKeyEvent, *e); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// text is the text of an element, with white space as people see it.
func (p *page) text(selector string) string {
	p.Helper()
	return strings.Join(strings.Fields(eval[string](p, `document.querySelector(`+quote(selector)+`)?.innerText ?? ""`)), " ")
}

// value is what a field of a name holds.
func (p *page) value(name string) string {
	p.Helper()
	return eval[string](p, `document.querySelector("[name=`+name+`]").value`)
}

// focused is the name, else the id, else the tag of what has the focus.
func (p *page) focused() string {
	p.Helper()
	return eval[string](p, `(({name, id, localName}) => name || id || localName)(document.activeElement)`)
}

// later moves the clock of the page, which is how it knows that it is time to ask for something again.
func (p *page) later(d time.Duration) {
	p.Helper()
	eval[float64](p, fmt.Sprintf("window.berthTest.ahead += %d", d.Milliseconds()))
}

// withoutScripts makes the browser one that runs no scripts.
func (p *page) withoutScripts() {
	p.Helper()
	call(p, func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	})
}

// sessionToken is what the session cookie holds; "" without one.
func (p *page) sessionToken() string {
	p.Helper()
	token := ""
	call(p, func(ctx context.Context) error {
		got, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{p.base + "/"}})
		if err != nil {
			return err
		}
		for _, c := range got.Cookies {
			if c.Name != "lxc-session" {
				continue
			}
			token = c.Value
			if !c.HTTPOnly || c.SameSite != network.CookieSameSiteLax || c.Path != "/" {
				err = errors.Join(err, fmt.Errorf("session cookie: HttpOnly %t, SameSite %s, path %s", c.HTTPOnly, c.SameSite, c.Path))
			}
		}
		return err
	})
	return token
}

// rows are the VMIDs of the list, in the order in which they are shown.
func (p *page) rows() []string {
	p.Helper()
	return eval[[]string](p, rowsExpression)
}

const rowsExpression = `[...document.querySelectorAll("#rows tr")].map((row) => row.querySelector("[data-label=VMID]").textContent.trim())`

// untilRows waits for the list to show these VMIDs in this order.
func (p *page) untilRows(vmids ...string) {
	p.Helper()
	p.until("rows "+strings.Join(vmids, ", "), rowsExpression+`.join() === `+quote(strings.Join(vmids, ",")))
}

// quote is a text as a JavaScript string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings can always be written as JSON
	}
	return string(b)
}

// line makes the tab's line one of so many bytes a second, 0 for as fast as it can be, or cuts it.
func (p *page) line(bytesPerSecond int, cut bool) {
	p.Helper()
	speed := float64(bytesPerSecond)
	if speed == 0 {
		speed = -1
	}
	call(p, func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
			MatchedNetworkConditions: []*network.Conditions{{DownloadThroughput: speed, UploadThroughput: speed, Offline: cut}},
		})
		return err
	})
}
