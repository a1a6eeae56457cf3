package view

import (
	"math"
	"strings"
	"testing"
	"time"
)

// values makes a series; NaN stands for what is not known.
func values(list ...float64) []*float64 {
	var series []*float64
	for _, v := range list {
		if math.IsNaN(v) {
			series = append(series, nil)
		} else {
			series = append(series, &v)
		}
	}
	return series
}

var gap = math.NaN()

func minutes(n int) []int64 {
	times := make([]int64, n)
	for i := range times {
		times[i] = time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC).Unix() + int64(i)*60
	}
	return times
}

func TestGraphPaths(t *testing.T) {
	g := NewGraph("mem", "Memory", Bytes, "hour", minutes(7), 4<<30, Figures{Label: "Memory", Values: values(0, 1<<30, gap, 4<<30, gap, 2<<30, 8<<30)})
	line := g.Series[0]
	// Two points, a gap, a point by itself, a gap, and what is beyond the top, which moves it up.
	if want := "M0 100L1 87.5M3 50L3 50M5 75L6 0"; line.Path != want {
		t.Errorf("line %s, want %s", line.Path, want)
	}
	if want := "M0 100L0 100L1 87.5V100ZM3 100L3 50V100ZM5 100L5 75L6 0V100Z"; line.Area != want {
		t.Errorf("area %s, want %s", line.Area, want)
	}
	if line.Data() != "0,1.074e+09,,4.295e+09,,2.147e+09,8.59e+09" || line.PeakData() != "" || g.viewBox() != "0 0 6 100" || g.Of != "4.00 GiB" {
		t.Errorf("%s, %s, %s, %s", line.Data(), line.PeakData(), g.viewBox(), g.Of)
	}
	if want := "average 3.00 GiB, highest 8.00 GiB"; line.Summary() != want {
		t.Errorf("%s, want %s", line.Summary(), want)
	}
	if got := joinedTimes(minutes(3)); got != "1772600400,60,60" {
		t.Errorf("times %s", got)
	}
}

func TestGraphLevels(t *testing.T) {
	for _, c := range []struct {
		unit Unit
		top  float64
		want string
	}{
		{Bytes, 4 << 30, "1 GiB 75%, 2 GiB 50%, 3 GiB 25%, 4 GiB 0%"},
		{Bytes, 6 << 30, "2 GiB 66.67%, 4 GiB 33.33%, 6 GiB 0%"},
		{Bytes, 600 << 20, "256 MiB 57.33%, 512 MiB 14.67%"},
		{Bytes, 3 << 10, "1 KiB 66.67%, 2 KiB 33.33%, 3 KiB 0%"},
	} {
		var got []string
		for _, l := range NewGraph("x", "X", c.unit, "hour", minutes(2), c.top, Figures{Values: values(1, 1)}).Levels {
			got = append(got, l.Label+" "+l.Y)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%v: %s, want %s", c.top, strings.Join(got, ", "), c.want)
		}
	}
	// A free top leaves room above the highest value, and stays within what a share can be.
	for _, c := range []struct {
		unit    Unit
		highest float64
		want    string
	}{
		{Share, 0.21, "10 % 20 %"},
		{Share, 0.003, "0.1 % 0.2 % 0.3 %"},
		{Share, 1, "25 % 50 % 75 % 100 %"},
		{Rate, 250 << 10, "128 KiB/s 256 KiB/s"},
		{Rate, 0, "256 B/s 512 B/s 768 B/s 1 KiB/s"},
	} {
		var got []string
		for _, l := range NewGraph("x", "X", c.unit, "hour", minutes(2), 0, Figures{Values: values(0, c.highest)}).Levels {
			got = append(got, l.Label)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("up to %v: %s, want %s", c.highest, strings.Join(got, " "), c.want)
		}
	}
}

func TestGraphMarks(t *testing.T) {
	for frame, c := range map[string]struct {
		step  time.Duration
		count int
		want  string
	}{
		"hour":  {time.Minute, 60, "05:20 05:30 05:40 05:50 06:00"},
		"day":   {time.Minute, 1440, "08:00 12:00 16:00 20:00 00:00 04:00"},
		"week":  {30 * time.Minute, 336, "Thu 5 Fri 6 Sat 7 Sun 8 Mon 9 Tue 10"},
		"month": {30 * time.Minute, 1440, "6 Mar 11 Mar 16 Mar 21 Mar 26 Mar 1 Apr"},
		"year":  {6 * time.Hour, 1440, "May Jul Sep Nov Jan"},
	} {
		var times []int64
		for i := range c.count {
			times = append(times, time.Date(2026, 3, 4, 5, 8, 0, 0, time.UTC).Add(time.Duration(i)*c.step).Unix())
		}
		var got []string
		for _, m := range NewGraph("x", "X", Share, frame, times, 0).Marks {
			got = append(got, m.Label)
			if (m.Unix != "") != (frame == "hour" || frame == "day") {
				t.Errorf("%s: %+v", frame, m)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %s, want %s", frame, strings.Join(got, " "), c.want)
		}
	}
	// Times as no honest host has them.
	var odd []int64
	for i := range 2000 {
		odd = append(odd, int64(i)*1e6)
	}
	if g := NewGraph("x", "X", Share, "hour", odd, 0); len(g.Marks) > maxMarks || len(g.Times) > maxDrawn {
		t.Errorf("%d marks, %d intervals", len(g.Marks), len(g.Times))
	}
}

func TestGraphMergesIntervals(t *testing.T) {
	list, peaks := make([]float64, 600), make([]float64, 600)
	for i := range list {
		list[i], peaks[i] = float64(i%2), float64(i)
	}
	list[2], list[3] = gap, gap
	g := NewGraph("x", "X", Rate, "week", minutes(600), 0, Figures{Values: values(list...), Peaks: values(peaks...)})
	if len(g.Times) != 300 || len(g.Series[0].values) != 300 || g.Series[0].values[1] != nil || *g.Series[0].values[0] != 0.5 || *g.Series[0].peaks[0] != 1 || g.Series[0].Peak == "" {
		t.Errorf("%d intervals, %+v", len(g.Times), g.Series[0].values[:3])
	}
	if !NewGraph("x", "X", Rate, "week", minutes(3), 0, Figures{Values: values(gap, gap, gap)}).Empty() || g.Empty() {
		t.Error("what is empty")
	}
}

func TestGraphTable(t *testing.T) {
	table := NewGraphTable([]Graph{
		NewGraph("cpu", "CPU", Share, "hour", minutes(60), 0, Figures{Label: "CPU", Values: values(make([]float64, 60)...)}),
		NewGraph("net", "Network", Rate, "hour", minutes(60), 0, Figures{Label: "Received", Values: values(gap)}, Figures{Label: "Sent", Values: nil}),
	})
	if got := strings.Join(table.Head, "; "); got != "CPU; Network, received; Network, sent" || len(table.Rows) != 12 || len(table.Rows[0].Cells) != 3 {
		t.Errorf("%s, %d rows", got, len(table.Rows))
	}
	if row := table.Rows[1]; row.Cells[0] != "0.0 %" || row.Cells[1] != "unknown" || row.From.Format("15:04") != "05:05" {
		t.Errorf("%+v", row)
	}
	if empty := NewGraphTable(nil); len(empty.Rows) != 0 {
		t.Errorf("%+v", empty)
	}
}

// containerPage is the page of a container in whose texts everything tries to break out.
func containerPage(s Shell) ContainerPage {
	graph := NewGraph("net", hostile, Rate, "hour", minutes(60), 0, Figures{Label: hostile, Values: values(1, 2, gap, 3)}, Figures{Label: "b", Values: values(1), Peaks: values(2)})
	return ContainerPage{
		Shell: s, NodeID: "n/1" + hostile, NodeName: hostile, VMID: 101, Name: hostile, Member: hostile, Status: hostile, Lock: hostile, Template: true,
		Tags: []string{hostile}, MoreTags: 2, Done: hostile, Frame: "hour", Graphs: []Graph{graph},
		Running:    &Task{NodeID: hostile, UPID: hostile, Label: hostile, User: hostile},
		Live:       &LiveFigures{Running: true, CPU: 0.5, MaxCPU: 2, MaxSwap: 1, HighAvailability: hostile},
		Facts:      []Fact{{Name: "Devices", Values: []string{hostile, hostile}, Mono: true}},
		Interfaces: []InterfaceRow{{Name: hostile, Addresses: []string{hostile}, Configured: true}, {DHCP: true}, {}},
		Networks:   []NetworkRow{{ID: "net0", Name: hostile, Bridge: hostile, MAC: hostile, Notes: []string{hostile}}},
		Mounts:     []MountRow{{ID: "rootfs", Path: hostile, Source: hostile, Size: 1 << 30, Notes: []string{hostile}}},
		Notes:      NotesForm{Tags: hostile, Description: "</textarea>" + hostile, Digest: hostile, MayEdit: true, Errors: map[string]string{"tags": hostile, "description": hostile}, Failure: &Failure{Message: hostile}},
		Actions:    []ContainerAction{{Name: "start", Primary: true}, {Name: "stop", Asks: true, Danger: true}, {Name: "delete", Refused: hostile, More: true}, {Name: "suspend", Asks: true, More: true, Experimental: true}},
		Tasks:      []Task{{NodeID: "n", UPID: hostile, Label: hostile, User: hostile, Status: "failed", Exit: hostile}, {Label: "Start", Status: "running"}},
		Events:     []AuditEntry{{Action: "container_edit", Detail: hostile, Result: "failed", ErrorID: hostile, Address: hostile}},
	}
}

// brokenContainer is the same with no part that could be read.
func brokenContainer(s Shell) ContainerPage {
	p := containerPage(s)
	p.Live, p.Graphs, p.GraphProblem = nil, nil, hostile
	p.Problems = map[string]string{"live": hostile, "config": hostile, "interfaces": hostile, "tasks": hostile, "events": hostile}
	return p
}
