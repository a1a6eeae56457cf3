package app

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// event is a server-sent event.
type event struct{ name, id, data string }

// stream is an open event stream.
type stream struct {
	t      *testing.T
	events chan event
	close  func()
	ended  chan struct{} // closed when the server has ended it
}

// stream opens the event stream and waits until it has begun.
func (b *browser) stream(query string, header ...string) *stream {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", b.base+"/api/events"+query, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := *b.http
	client.Timeout = 0
	resp, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	if media := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || media != "text/event-stream" {
		b.t.Fatalf("%d %s", resp.StatusCode, media)
	}
	s := &stream{t: b.t, events: make(chan event, 1000), close: cancel, ended: make(chan struct{})}
	b.t.Cleanup(cancel)
	begun := make(chan struct{})
	go func() {
		defer resp.Body.Close()
		defer close(s.ended)
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 8<<20)
		var e event
		for first := true; lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if lines.Text() != "" {
					continue
				}
				if first {
					first = false
					close(begun)
				}
				if e.data != "" {
					s.events <- e
				}
				e = event{}
			}
		}
	}()
	select {
	case <-begun:
	case <-s.ended:
		b.t.Fatal("the stream ended before it began")
	}
	return s
}

// next waits for an event that is wanted, past all others.
func (s *stream) next(what string, wanted func(event) bool) event {
	s.t.Helper()
	enough := time.After(30 * time.Second)
	for {
		select {
		case e := <-s.events:
			if wanted(e) {
				return e
			}
		case <-enough:
			s.t.Fatalf("no event: %s", what)
		}
	}
}

// row is what an event says of a container, of whichever node; nil if nothing.
func (e event) row(t *testing.T, vmid int) map[string]any {
	t.Helper()
	for _, row := range e.rows(t) {
		if row["vmid"] == float64(vmid) {
			return row
		}
	}
	return nil
}

// rows are what an event says of containers.
func (e event) rows(t *testing.T) []map[string]any {
	t.Helper()
	if e.name != "containers" {
		return nil
	}
	var change struct{ Changed []map[string]any }
	if err := json.Unmarshal([]byte(e.data), &change); err != nil {
		t.Fatalf("%s: %v", e.data, err)
	}
	return change.Changed
}

func resourcesAsked(h *sim.Host) int {
	n := 0
	for _, r := range h.Requests() {
		if strings.HasSuffix(r.Path, "/cluster/resources") {
			n++
		}
	}
	return n
}

// A change that somebody makes on the host itself reaches every open page.
func TestChangesReachStreams(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "root@pam")
	one, other := browser.stream(""), browser.stream("")
	const vmid = 101
	is := func(status string) func(event) bool {
		return func(e event) bool { row := e.row(t, vmid); return row != nil && row["status"] == status }
	}
	one.next("the first list", is(sim.Running))
	var took []time.Duration
	for i := range 5 {
		status := []string{sim.Stopped, sim.Running}[i%2]
		if err := dc.SetContainerStatus(vmid, status); err != nil {
			t.Fatal(err)
		}
		b.advance(10 * time.Second) // now cluster/resources shows it
		begun := time.Now()
		e := one.next(status, is(status))
		took = append(took, time.Since(begun))
		// Versions begin with the replica that they are of.
		if again := other.next(status, is(status)); again != e && (len(b.apps) == 1 || instance(again) == instance(e)) {
			t.Errorf("one page was told\n%v\nand the other\n%v", e, again)
		}
	}
	slices.Sort(took)
	t.Logf("from cluster/resources to the page: median %v, most %v", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > 3*time.Second {
		t.Errorf("it took %v", took)
	}

	// A task of somebody else's shows before cluster/resources has heard of it.
	if _, err := dc.ChangeContainer("root@pam", vmid, "start"); err != nil {
		t.Fatal(err)
	}
	one.next("the task", func(e event) bool {
		return e.name == "tasks" && strings.Contains(e.data, `"type":"vzstart"`) && strings.Contains(e.data, `"running":1`)
	})
	b.advance(4 * time.Second)
	e := one.next("the container's own word", is(sim.Running))
	if list := browser.get("/api/containers").json(t); list["version"] != e.id {
		t.Logf("the list has version %v, the event %s: something else has changed since", list["version"], e.id)
	}
}

func instance(e event) string {
	of, _, _ := strings.Cut(e.id, ".")
	return of
}

// However many watch, the host is asked the same, and nothing is left of them when they have gone.
func TestStreamsCostHostsNothing(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "root@pam")
	runtime.GC()
	before := runtime.NumGoroutine()
	perMinute := map[int]float64{}
	for _, viewers := range []int{1, 50} {
		var streams []*stream
		for range viewers {
			streams = append(streams, browser.stream(""))
		}
		// From one reading to the second after it, of each program.
		wait := func(n int) (count int, at time.Time) {
			for deadline := time.Now().Add(30 * time.Second); count < n && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				count = resourcesAsked(host)
			}
			return count, time.Now()
		}
		begun, from := wait(resourcesAsked(host) + 1)
		_, to := wait(begun + 2*len(b.apps))
		perMinute[viewers] = float64(2*len(b.apps)) / to.Sub(from).Minutes()
		for _, s := range streams {
			s.close()
			<-s.ended
		}
	}
	t.Logf("readings per minute: %.1f with one viewer, %.1f with 50", perMinute[1], perMinute[50])
	// Each takes two seconds at least, whatever the machine is busy with.
	if perMinute[1] > 33 || perMinute[50] > float64(33*len(b.apps)) {
		t.Errorf("%v readings per minute, want 30 by each program", perMinute)
	}
	for range 50 {
		s := browser.stream("")
		s.close()
		<-s.ended
	}
	browser.http.CloseIdleConnections()
	left := 0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		// The host's connection is kept for a while, with a few goroutines on either side.
		if left = runtime.NumGoroutine() - before; left <= 8 {
			break
		}
	}
	if left > 8 {
		t.Errorf("%d goroutines are left of 101 streams", left)
	}
}

// The stream of a session ends with it, says so, and leaves the streams of others alone.
func TestAbuseStreamEndsWithItsSession(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser, other := b.browser(t), b.browser(t)
	browser.signIn(host, "root@pam")
	other.signIn(host, "root@pam")
	one, staying := browser.stream(""), other.stream("")
	begun := time.Now()
	if r := browser.json("/api/auth/logout", map[string]any{}); r.StatusCode != http.StatusOK {
		t.Fatal(r.StatusCode, r.body)
	}
	one.next("the end", func(e event) bool { return e.name == "end" })
	<-one.ended
	t.Logf("the stream ended %v after its session", time.Since(begun))
	if r := browser.get("/api/events"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stream without a session: %d", r.StatusCode)
	}
	select {
	case <-staying.ended:
		t.Error("the stream of another session of the same user ended too")
	default:
	}
	// Nobody is left but one who disappears: no ticket is used for nobody.
	if r := other.json("/api/auth/logout", map[string]any{}); r.StatusCode != http.StatusOK {
		t.Fatal(r.StatusCode, r.body)
	}
	<-staying.ended
	asked := len(host.Requests())
	time.Sleep(3 * time.Second) // longer than from one reading to the next
	if n := len(host.Requests()); n != asked {
		t.Errorf("the host was asked %d times with nobody's ticket", n-asked)
	}
}

// An open stream is no use of its session: what is idle ends, stream and all.
func TestAbuseStreamKeepsNoSessionAlive(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "root@pam")
	s := browser.stream("")
	for range 3 {
		b.advance(time.Hour)
	}
	s.next("the end", func(e event) bool { return e.name == "end" })
}

func TestStreamResumes(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	browser := b.past(t) // versions are each program's own; see TestStreamsResumeElsewhere
	browser.signIn(host, "root@pam")
	version := browser.withAddresses().json(t)["version"].(string)
	s := browser.stream("?version=" + version)
	// Tasks are read for the first time, which is news, but none that the stream began too late for.
	select {
	case e := <-s.events:
		if e.name == "reset" {
			t.Errorf("%v although nothing has changed", e)
		}
	case <-time.After(100 * time.Millisecond):
	}
	s.close()
	<-s.ended
	if err := dc.SetContainerStatus(101, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	b.advance(10 * time.Second)
	b.eventually(t, "the change is known", func() bool {
		return strings.Contains(browser.get("/api/containers?status=stopped").body, `"vmid":101,`)
	})
	for _, s := range []*stream{browser.stream("?version=" + version), browser.stream("", "Last-Event-ID", version), browser.stream("?version="+version, "Last-Event-ID", "other")} {
		e := s.next("a reset", func(event) bool { return true })
		if e.name != "reset" || e.id == "" || e.id == version {
			t.Errorf("%v, want a reset", e)
		}
	}
	if r := browser.get("/api/events?version=" + strings.Repeat("x", 101)); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a long version: %d", r.StatusCode)
	}
	if r := browser.do("HEAD", "/api/events", "", ""); r.StatusCode != http.StatusOK || r.body != "" {
		t.Errorf("HEAD: %d %q", r.StatusCode, r.body)
	}
}

// Streams keep the program from ending no longer than it takes to tell them.
func TestStreamsEndWithTheProgram(t *testing.T) {
	b := newBench(t)
	_, host := b.newHost(t, sim.Options{})
	browser := b.browser(t)
	browser.signIn(host, "root@pam")
	var streams []*stream
	for range 20 {
		streams = append(streams, browser.stream(""))
	}
	begun := time.Now()
	b.stop()
	if took := time.Since(begun); took >= drainTime {
		t.Errorf("the program took %v to end", took)
	}
	for _, s := range streams {
		<-s.ended
	}
}

// withAddresses is the list of containers when their addresses have been asked for: of those that run and of the one that
// doesn't and has a static one.
func (b *browser) withAddresses() reply {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		r := b.get("/api/containers")
		if !slices.ContainsFunc(r.json(b.t)["items"].([]any), func(item any) bool {
			c := item.(map[string]any)
			return len(c["addresses"].([]any)) == 0 && (c["status"] == sim.Running || c["vmid"] == 112.0)
		}) {
			return r
		}
	}
	b.t.Fatal("the addresses never came")
	return reply{}
}

// A list that has not changed is answered without it.
func TestContainersByVersion(t *testing.T) {
	b := newBench(t)
	dc, host := b.newHost(t, sim.Options{})
	browser := b.past(t) // versions are each program's own; see TestStreamsResumeElsewhere
	browser.signIn(host, "root@pam")
	b.advance(b.now().Truncate(10 * time.Second).Add(10 * time.Second).Sub(b.now())) // figures move every ten seconds
	tag := browser.withAddresses().Header.Get("ETag")
	for _, header := range []string{tag, strings.TrimPrefix(tag, "W/"), `"x", ` + tag, "*"} {
		if r := browser.do("GET", "/api/containers", "", "", "If-None-Match", header); r.StatusCode != http.StatusNotModified || r.body != "" || r.Header.Get("ETag") != tag {
			t.Errorf("%s: %d %.200q", header, r.StatusCode, r.body)
		}
	}
	b.advance(2 * time.Second) // read again, and nothing has changed
	if r := browser.do("GET", "/api/containers", "", "", "If-None-Match", tag); r.StatusCode != http.StatusNotModified {
		t.Errorf("unchanged: %d", r.StatusCode)
	}
	if err := dc.SetContainerStatus(101, sim.Stopped); err != nil {
		t.Fatal(err)
	}
	b.advance(10 * time.Second)
	r := browser.do("GET", "/api/containers", "", "", "If-None-Match", tag)
	if r.StatusCode != http.StatusOK || r.Header.Get("ETag") == tag {
		t.Errorf("changed: %d %s", r.StatusCode, r.Header.Get("ETag"))
	}
	// Page by page it is the same list.
	var whole, paged []string
	refs := func(r reply) (refs []string) {
		for _, item := range r.json(t)["items"].([]any) {
			item := item.(map[string]any)
			refs = append(refs, fmt.Sprint(item["nodeId"], "/", item["vmid"]))
		}
		return refs
	}
	whole = refs(browser.get("/api/containers?sort=-mem&kind=all"))
	for path, cursor := "/api/containers?sort=-mem&kind=all&limit=3", ""; ; {
		page := browser.get(path + cursor)
		paged = append(paged, refs(page)...)
		next, more := page.json(t)["next"].(string)
		if cursor = "&cursor=" + next; !more {
			break
		}
	}
	if !slices.Equal(whole, paged) || len(whole) < 7 {
		t.Errorf("%v in one piece, %v in pages", whole, paged)
	}
}
