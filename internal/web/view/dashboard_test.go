package view

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestSortedBy(t *testing.T) {
	columns := map[string]Column{}
	for _, c := range Columns {
		columns[c.Name] = c
	}
	for _, c := range []struct{ sort, column, want, aria string }{
		{"", "name", "/berth/?node=n1&q=web+1&sort=name&status=running", ""},
		{"name", "name", "/berth/?node=n1&q=web+1&sort=-name&status=running", "ascending"},
		{"-name", "name", "/berth/?node=n1&q=web+1&sort=name&status=running", "descending"},
		{"name", "mem", "/berth/?node=n1&q=web+1&sort=-mem&status=running", ""},
		{"-mem", "mem", "/berth/?node=n1&q=web+1&sort=mem&status=running", "descending"},
	} {
		d := &Dashboard{Shell: Shell{BasePath: "/berth"}, Filter: Filter{Query: "web 1", Status: "running", Node: "n1", Sort: c.sort}}
		if got := d.sortedBy(columns[c.column]); got != c.want {
			t.Errorf("sorted by %q, a click on %s goes to %q, want %q", c.sort, c.column, got, c.want)
		}
		if got := d.sorted(columns[c.column]); got != c.aria {
			t.Errorf("sorted by %q, aria-sort of %s is %q, want %q", c.sort, c.column, got, c.aria)
		}
	}
}

func TestFilterURL(t *testing.T) {
	s := Shell{BasePath: "/berth"}
	if got := (Filter{}).URL(s); got != "/berth/" {
		t.Errorf("no filter is at %q", got)
	}
	got := Filter{Query: "a&b", Status: "other", Node: "n", Tag: "t;u", VirtualMachines: true, Sort: "-cpu"}.URL(s)
	if want := "/berth/?kind=all&node=n&q=a%26b&sort=-cpu&status=other&tag=t%3Bu"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestLayout(t *testing.T) {
	names := func(l Layout) string {
		var shown []string
		for _, c := range l.shown() {
			shown = append(shown, c.Name)
		}
		return strings.Join(shown, " ")
	}
	if got := names(Layout{}); got != "name vmid status node cpu mem disk uptime" {
		t.Errorf("everybody begins with %s", got)
	}
	l := Layout{Columns: []string{"addresses", "cpu", "no such column"}}
	if got := names(l); got != "name status cpu addresses" || l.shows("tags") || !(Layout{}).shows("tags") {
		t.Errorf("cpu and addresses: %s, tags %t", got, l.shows("tags"))
	}
	if got := names(Layout{Columns: []string{}}); got != "name status" {
		t.Errorf("no column: %s", got)
	}
	html := render(t, DashboardPage(Dashboard{Layout: l, Rows: rows(1), Matches: 1, Total: 1, Nodes: 1}))
	if strings.Contains(html, "col-mem") || !strings.Contains(html, "col-addresses") || strings.Contains(html, `class="tags"`) {
		t.Error("the list does not show the chosen columns")
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := Grouped(n); got != want {
			t.Errorf("Grouped(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDashboardStates(t *testing.T) {
	down := NodeProblem{NodeID: "n1", Name: "attic", Address: "pve.lan:8006", Problem: "it doesn't answer", WayOut: "Look whether it runs."}
	stale := down
	stale.ReadAt = time.Unix(0, 0)
	cellar := stale
	cellar.NodeID, cellar.Name = "n2", "cellar"
	through := stale
	through.Through = "cellar"
	row := rows(1)
	greyed := rows(1)
	greyed[0].LastKnown = time.Unix(0, 0)
	now := time.Unix(245, 0)
	for name, c := range map[string]struct {
		d       Dashboard
		want    []string
		without []string
	}{
		"no nodes":         {Dashboard{}, []string{"No nodes yet", "/settings/nodes"}, []string{"VM.Audit", "fleet-bar"}},
		"empty":            {Dashboard{Nodes: 1}, []string{"VM.Audit"}, []string{"Clear filters"}},
		"no match":         {Dashboard{Nodes: 1, Total: 3, Filter: Filter{Query: "x"}}, []string{"Clear filters"}, []string{"VM.Audit"}},
		"one down":         {Dashboard{Nodes: 2, Total: 1, Matches: 1, Rows: row, Problems: []NodeProblem{down}}, []string{"attic</span>: it doesn&#39;t answer", "Nothing is known", "Look whether it runs.", "/settings/nodes/n1"}, []string{"all-down"}},
		"one down, known":  {Dashboard{Nodes: 2, Total: 1, Matches: 1, Rows: greyed, Problems: []NodeProblem{stale}, Now: now}, []string{"Last known <time", "4 minutes ago", "data-stale", `datetime="1970-01-01T00:00:00Z"`}, []string{"Nothing is known"}},
		"another door":     {Dashboard{Nodes: 2, Total: 1, Matches: 1, Rows: row, Problems: []NodeProblem{through}, Now: now}, []string{"it doesn&#39;t answer", "read through <b>cellar</b>"}, []string{"Last known", "last known"}},
		"on a lost member": {Dashboard{Nodes: 1, Total: 1, Matches: 1, Rows: []Container{{NodeID: "n1", VMID: 100, Status: "unknown"}}, Layout: Layout{Columns: []string{"cpu", "mem", "disk"}}}, []string{">CT 100<"}, []string{"0 B", "0 cores"}},
		"the only one":     {Dashboard{Nodes: 1, Problems: []NodeProblem{down}}, []string{"all-down-bare", "pve.lan:8006"}, []string{"VM.Audit", "None of your"}},
		"all down":         {Dashboard{Nodes: 2, Problems: []NodeProblem{down, cellar}}, []string{"None of your 2 nodes", "/settings/nodes/n2"}, []string{"VM.Audit", "last known."}},
		"all down, known":  {Dashboard{Nodes: 2, Total: 1, Matches: 1, Rows: greyed, Problems: []NodeProblem{stale, cellar}, Now: now}, []string{"None of your 2 nodes", "what was last known", "data-stale"}, []string{"notice-warn banner"}},
		"many down":        {Dashboard{Nodes: 9, Total: 1, Matches: 1, Rows: row, Problems: []NodeProblem{down, cellar, stale, down, down}}, []string{"2 more nodes"}, nil},
		"filtered":         {Dashboard{Nodes: 1, Rows: row, Matches: 1, Total: 7000, Filter: Filter{Query: "w"}}, []string{"1 of 7,000 containers"}, []string{"Clear filters"}},
		"other":            {Dashboard{Nodes: 1, Rows: row, Matches: 1, Total: 1, Other: 1}, []string{"status=other"}, nil},
		"virtual machines": {Dashboard{Nodes: 1, Rows: row, Matches: 3, Total: 3, Filter: Filter{VirtualMachines: true}}, []string{"3 containers and VMs", "checked"}, nil},
	} {
		html := render(t, DashboardPage(c.d))
		for _, want := range c.want {
			if !strings.Contains(html, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		for _, without := range c.without {
			if strings.Contains(html, without) {
				t.Errorf("%s: has %q", name, without)
			}
		}
	}
}

// A page never holds more than a window, and says where the window is.
func TestWindow(t *testing.T) {
	d := Dashboard{Nodes: 1, Rows: rows(PageRows), From: 240, Matches: 10_000, Total: 10_000, Filter: Filter{Sort: "name"}}
	html := render(t, DashboardPage(d))
	if n := strings.Count(html, "<tr"); n > 300 {
		t.Errorf("%d rows", n)
	}
	for _, want := range []string{
		`aria-rowcount="10001"`, `aria-rowindex="242"`, `aria-rowindex="301"`, `id="rows-before" aria-hidden="true" data-rows="240"`,
		`id="rows-behind" aria-hidden="true" data-rows="9700"`, `href="/?from=180&amp;sort=name"`, `href="/?from=300&amp;sort=name"`, "241 to 300 of 10,000",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("no %s", want)
		}
	}
	d.Rows, d.From, d.Matches = rows(5), 0, 5
	if html := render(t, DashboardPage(d)); strings.Contains(html, "pager") {
		t.Error("five rows have a second page")
	}
}

func rowHTML(t *testing.T, d Dashboard, c Container) string {
	t.Helper()
	return render(t, row(&d, 0, &c))
}

func TestStoppedContainerShowsNoUsage(t *testing.T) {
	html := rowHTML(t, Dashboard{}, Container{VMID: 100, Name: "db", Status: "stopped", MaxCPU: 2, MaxMem: 1 << 30, MaxDisk: 8 << 30})
	if strings.Contains(html, "gauge") || strings.Contains(html, "0 B") {
		t.Errorf("figures of what doesn't run: %s", html)
	}
	for _, want := range []string{"2 cores", "1.00 GiB", "8.00 GiB", `data-kind="stopped"`, ">stopped<"} {
		if !strings.Contains(html, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestRowActions(t *testing.T) {
	d := Dashboard{Shell: Shell{BasePath: "/berth"}, Selectable: true}
	c := Container{NodeID: "n1", VMID: 101, Name: "web", Status: "stopped", Refused: map[string]string{"stop": "It is stopped.", "delete": "You need\nVM.Allocate."}}
	stopped := rowHTML(t, d, c)
	for _, want := range []string{
		`formaction="/berth/containers/n1/101/start"`, `aria-label="Start web (101)"`, `href="/berth/containers/n1/101"`, `value="n1/101"`,
		"stop: It is stopped.\ndelete: You need VM.Allocate.\n",
	} {
		if !strings.Contains(stopped, want) {
			t.Errorf("stopped: no %s", want)
		}
	}
	c.Status, c.Refused = "running", map[string]string{"shutdown": "You need VM.PowerMgmt."}
	running := rowHTML(t, d, c)
	for _, want := range []string{`href="/berth/containers/n1/101/shutdown"`, `aria-disabled="true" title="You need VM.PowerMgmt."`} {
		if !strings.Contains(running, want) {
			t.Errorf("running: no %s in %s", want, running)
		}
	}
	c.Doing = "Stopping"
	if busy := rowHTML(t, d, c); !strings.Contains(busy, "spinner") || !strings.Contains(busy, "Stopping") || strings.Contains(busy, `data-kind="running"`) {
		t.Errorf("busy: %s", busy)
	}
	c.VirtualMachine, c.Refused = true, nil
	if machine := rowHTML(t, d, c); strings.Contains(machine, "checkbox") || strings.Contains(machine, "shutdown") || strings.Contains(machine, "href") || !strings.Contains(machine, ">VM<") {
		t.Errorf("a virtual machine is more than looked at: %s", machine)
	}
}

func TestTagsThatAreNotShownAreCounted(t *testing.T) {
	for more, want := range map[int]bool{0: false, 4: true} {
		html := rowHTML(t, Dashboard{}, Container{Tags: []string{"web"}, MoreTags: more})
		if strings.Contains(html, `>+4 <span class="sr-only">more tags</span>`) != want || strings.Contains(html, "more tags") != want {
			t.Errorf("%d more tags: %s", more, html)
		}
	}
}

// Every link of the list keeps what the others have set.
func TestLinksKeepTheFilter(t *testing.T) {
	d := Dashboard{Nodes: 1, Total: 9, Matches: 9, Rows: rows(1), Filter: Filter{Query: "a", Status: "running", Node: "n", Tag: "t", VirtualMachines: true, Sort: "cpu"}}
	for name, link := range map[string]string{"status": d.withStatus("stopped"), "tag": d.withTag("u"), "sort": d.sortedBy(Columns[0])} {
		u, err := url.Parse(link)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %s %s", len(u.Query()), u.Query().Get("q"), u.Query().Get("kind")); got != "6 a all" {
			t.Errorf("%s: %s", name, link)
		}
	}
	if got := d.unfiltered(); got != "/?sort=cpu" {
		t.Errorf("without filters: %s", got)
	}
}

// While another node leads to the same cluster not all is down.
func TestAllDown(t *testing.T) {
	d := Dashboard{Nodes: 1, Problems: []NodeProblem{{Name: "attic", Others: []string{"cellar"}}}}
	if !d.allDown() {
		t.Error("the only installation is down, and not all is")
	}
	if html := render(t, DashboardPage(d)); !strings.Contains(html, "through <b>cellar</b> either") {
		t.Error("the other way there is not named")
	}
	if d.Problems[0].Through = "shed"; d.allDown() {
		t.Error("it can be read, and all is down")
	}
}

// The first field with an error has the focus; a failure has it when no field is to blame.
func TestNodeFormFocus(t *testing.T) {
	form := NodeForm{Kind: "token", Errors: map[string]string{"tokenSecret": "bad", "port": "bad"}}
	if html := render(t, NodeFormPage(form)); strings.Count(html, "autofocus") != 1 || !strings.Contains(html[strings.Index(html, `id="port"`):strings.Index(html, `id="tokenId"`)], "autofocus") {
		t.Error("the first field with an error has no focus")
	}
	form = NodeForm{Kind: "token", Failure: &Failure{Message: "It does not answer."}}
	if html := render(t, NodeFormPage(form)); strings.Count(html, "autofocus") != 1 || !strings.Contains(html, `<div tabindex="-1" autofocus>`) {
		t.Error("the failure has no focus")
	}
}

func TestRemoveOneOfSeveralWays(t *testing.T) {
	html := render(t, RemoveNodePage(RemoveNode{Node: Node{Name: "attic", SameAs: []string{"cellar"}}}))
	if strings.Contains(html, "no longer see them") || !strings.Contains(html, "through <bdi>cellar</bdi>") {
		t.Error("it does not say that the containers are still there")
	}
}

func TestQuestionLeadsBack(t *testing.T) {
	c := Change{Shell: Shell{BasePath: "/berth"}, Action: "stop", Subject: Subject{NodeID: "n1", VMID: 101}, Back: "/?q=web"}
	if html := render(t, ChangePage(c)); !strings.Contains(html, `data-close href="/berth/?q=web">Cancel`) || !strings.Contains(html, `action="/berth/containers/n1/101/stop?back=%2F%3Fq%3Dweb"`) {
		t.Error("Cancel does not lead back to where one came from")
	}
}
