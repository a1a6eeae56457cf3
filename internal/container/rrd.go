package container

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// GraphQuery asks for what one container used over a time frame.
type GraphQuery struct {
	Choice
	Timeframe string `json:"timeframe,omitempty" enum:"hour,day,week,month,year" default:"hour" doc:"how far back"`
}

// Timeframes are the values of GraphQuery.Timeframe, shortest first.
var Timeframes = []string{"hour", "day", "week", "month", "year"}

// Validate reports every field that can't be right.
func (q GraphQuery) Validate() error {
	if q.Timeframe != "" && !slices.Contains(Timeframes, q.Timeframe) {
		return fault.InvalidInput(map[string]string{"timeframe": "Timeframe must be one of " + strings.Join(Timeframes, ", ")})
	}
	return nil
}

// Graph is what a container used over a time frame. All series have as many values as there are times; null where nothing
// is known of an interval, as while the container did not run.
type Graph struct {
	Timeframe string  `json:"timeframe" example:"hour"`
	Times     []int64 `json:"times" doc:"starts of the intervals, in Unix seconds, rising"`
	// Step is how long most intervals are.
	Step int64 `json:"step" doc:"length of an interval in seconds"`

	CPU       Series `json:"cpu" doc:"used share of the cores that it may use, 0 to 1"`
	Mem       Series `json:"mem" doc:"bytes"`
	Disk      Series `json:"disk" doc:"bytes of its root file system"`
	NetIn     Series `json:"netin" doc:"bytes a second, as are the next three"`
	NetOut    Series `json:"netout"`
	DiskRead  Series `json:"diskread"`
	DiskWrite Series `json:"diskwrite"`
}

// Series is one figure over time.
type Series struct {
	Values []*float64 `json:"values" doc:"averages"`
	// Peaks are there for the frames whose intervals are longer than the time between two looks of Proxmox VE's.
	Peaks []*float64 `json:"peaks,omitempty" doc:"greatest values, for week, month and year, where the host has them"`
	Limit float64    `json:"limit,omitempty" doc:"what the container may use at most: cores for cpu, else in the unit of the values"`
}

// maxPoints bounds the points of one graph; Proxmox VE has 1440 at most.
const maxPoints = 2000

// Graph is the authenticated action behind a container's graphs.
func (d *Details) Graph(ctx context.Context, caller session.Caller, q GraphQuery) (Graph, error) {
	if err := q.Validate(); err != nil {
		return Graph{}, err
	}
	c, err := d.find(ctx, caller, q.Choice)
	if err != nil {
		return Graph{}, err
	}
	frame := cmp.Or(q.Timeframe, Timeframes[0])
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	read := func(by pve.Consolidation) (points []pve.Point, err error) {
		err = d.call(ctx, caller, c, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
			points, err = host.History(ctx, with, c.Node, c.VMID, pve.Timeframe(frame), by)
			return err
		})
		return points, err
	}
	var peaks []pve.Point
	var wait sync.WaitGroup
	if frame != "hour" && frame != "day" {
		wait.Go(func() { peaks, _ = read(pve.Maximum) }) // averages alone are a graph too
	}
	averages, err := read(pve.Average)
	wait.Wait()
	if err != nil {
		return Graph{}, err
	}
	return newGraph(frame, averages, peaks), nil
}

// seriesOf are the series of a graph, with where a point has them and what limits them.
var seriesOf = []struct {
	of    func(*Graph) *Series
	value func(*pve.Point) pve.Figure
	limit func(*pve.Point) pve.Figure
}{
	{func(g *Graph) *Series { return &g.CPU }, func(p *pve.Point) pve.Figure { return p.CPU }, func(p *pve.Point) pve.Figure { return p.MaxCPU }},
	{func(g *Graph) *Series { return &g.Mem }, func(p *pve.Point) pve.Figure { return p.Mem }, func(p *pve.Point) pve.Figure { return p.MaxMem }},
	{func(g *Graph) *Series { return &g.Disk }, func(p *pve.Point) pve.Figure { return p.Disk }, func(p *pve.Point) pve.Figure { return p.MaxDisk }},
	{func(g *Graph) *Series { return &g.NetIn }, func(p *pve.Point) pve.Figure { return p.NetIn }, nil},
	{func(g *Graph) *Series { return &g.NetOut }, func(p *pve.Point) pve.Figure { return p.NetOut }, nil},
	{func(g *Graph) *Series { return &g.DiskRead }, func(p *pve.Point) pve.Figure { return p.DiskRead }, nil},
	{func(g *Graph) *Series { return &g.DiskWrite }, func(p *pve.Point) pve.Figure { return p.DiskWrite }, nil},
}

func newGraph(frame string, averages, peaks []pve.Point) Graph {
	averages = inOrder(averages)
	highest := make(map[int64]*pve.Point, len(peaks))
	for i := range peaks {
		highest[peaks[i].Time.Unix()] = &peaks[i]
	}
	g := Graph{Timeframe: frame, Times: make([]int64, len(averages)), Step: step(averages)}
	for i := range averages {
		g.Times[i] = averages[i].Time.Unix()
	}
	for _, f := range seriesOf {
		s := f.of(&g)
		s.Values = make([]*float64, len(averages))
		if len(peaks) > 0 {
			s.Peaks = make([]*float64, len(averages))
		}
		for i := range averages {
			p := &averages[i]
			s.Values[i] = known(f.value(p))
			if f.limit != nil && f.limit(p).Known {
				s.Limit = f.limit(p).Value // the last one counts
			}
			if peak := highest[p.Time.Unix()]; peak != nil {
				s.Peaks[i] = known(f.value(peak))
			}
		}
	}
	return g
}

func known(f pve.Figure) *float64 {
	if !f.Known {
		return nil
	}
	return &f.Value
}

// inOrder sorts points by time, each time once, and keeps the latest maxPoints of them.
func inOrder(points []pve.Point) []pve.Point {
	points = slices.DeleteFunc(slices.Clone(points), func(p pve.Point) bool { return p.Time.IsZero() })
	slices.SortStableFunc(points, func(a, b pve.Point) int { return a.Time.Compare(b.Time) })
	points = slices.CompactFunc(points, func(a, b pve.Point) bool { return a.Time.Equal(b.Time) })
	return points[max(0, len(points)-maxPoints):]
}

// step is the time from most points to the next, in seconds.
func step(points []pve.Point) int64 {
	var steps []time.Duration
	for i := 1; i < len(points); i++ {
		steps = append(steps, points[i].Time.Sub(points[i-1].Time))
	}
	if len(steps) == 0 {
		return 0
	}
	slices.Sort(steps)
	return int64(steps[len(steps)/2] / time.Second)
}
