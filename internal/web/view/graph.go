package view

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Unit is what the figures of a graph are.
type Unit string

// The units. Their texts are those that graph.ts knows.
const (
	Share Unit = "share" // 0 to 1, shown in percent
	Bytes Unit = "bytes"
	Rate  Unit = "rate" // bytes a second
)

func (u Unit) format(v float64) string {
	switch u {
	case Share:
		return FormatPercent(v)
	case Rate:
		return FormatBytes(wholeBytes(v)) + "/s"
	}
	return FormatBytes(wholeBytes(v))
}

func wholeBytes(v float64) int64 { return int64(math.Round(min(max(v, 0), 1<<62))) }

// Figures are one series of a graph; nil where nothing is known. Peaks may be empty.
type Figures struct {
	Label         string
	Values, Peaks []*float64
}

// Graph is a graph of one or two series over a time frame, drawn on a grid that is graphHeight high and as wide as there are
// intervals.
type Graph struct {
	Name  string // for ids: "cpu"
	Title string
	Unit  Unit
	// Of says what the top of the graph is, where that means something: "4.00 GiB".
	Of     string
	Series []Line
	Times  []int64 // the starts of the intervals that are drawn
	top    float64
	Levels []Level
	Marks  []TimeMark
}

// Line is one series as it is drawn.
type Line struct {
	Label            string
	Path, Area, Peak string // of SVG paths; Peak is the area below the peaks
	values, peaks    []*float64
	unit             Unit
}

// Level is a line across the graph.
type Level struct {
	Y     string // in percent from the top
	Label string
}

// TimeMark is a time on the axis.
type TimeMark struct {
	X     string // in percent from the left
	Label string // in UTC
	Unix  string // Unix seconds, for scripts to write the label in the browser's own time; empty for days and months
}

const (
	graphHeight = 100
	// maxDrawn is how many intervals are drawn; more would be finer than screens are.
	maxDrawn = 300
)

// NewGraph draws series over times. most is the top of the graph; 0 chooses one that fits the values, and for shares none
// above 1.
func NewGraph(name, title string, unit Unit, frame string, times []int64, most float64, series ...Figures) Graph {
	g := Graph{Name: name, Title: title, Unit: unit}
	by := max(1, (len(times)+maxDrawn-1)/maxDrawn)
	for i := 0; i < len(times); i += by {
		g.Times = append(g.Times, times[i])
	}
	g.top = most
	for _, s := range series {
		line := Line{Label: s.Label, unit: unit, values: merged(s.Values, by, average)}
		if len(s.Peaks) > 0 {
			line.peaks = merged(s.Peaks, by, highest)
		}
		for _, list := range [][]*float64{line.values, line.peaks} {
			if h := highest(list); h != nil && (most == 0 || *h > g.top) {
				g.top = max(g.top, *h)
			}
		}
		g.Series = append(g.Series, line)
	}
	if most > 0 {
		g.Of = unit.format(most)
	}
	g.setLevels(most == 0)
	for i := range g.Series {
		line := &g.Series[i]
		line.Path, line.Area = g.draw(line.values)
		_, line.Peak = g.draw(line.peaks)
	}
	g.Marks = timeMarks(frame, g.Times)
	return g
}

// Empty tells that nothing is known.
func (g Graph) Empty() bool {
	for _, s := range g.Series {
		if highest(s.values) != nil {
			return false
		}
	}
	return true
}

// Summary says in words what a series shows.
func (l Line) Summary() string {
	mean, most := average(l.values), highest(append(append([]*float64(nil), l.values...), l.peaks...))
	if mean == nil {
		return "no figures"
	}
	return "average " + l.unit.format(*mean) + ", highest " + l.unit.format(*most)
}

// Data are the values for scripts: separated by commas, empty where nothing is known.
func (l Line) Data() string { return joined(l.values) }

// PeakData are the peaks likewise.
func (l Line) PeakData() string { return joined(l.peaks) }

func joined(values []*float64) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		if v != nil {
			b.WriteString(strconv.FormatFloat(*v, 'g', 4, 64))
		}
	}
	return b.String()
}

// joinedTimes are times for scripts: the first, then how much later each is than the one before.
func joinedTimes(times []int64) string {
	var b strings.Builder
	for i, t := range times {
		if i > 0 {
			b.WriteByte(',')
			t -= times[i-1]
		}
		b.WriteString(strconv.FormatInt(t, 10))
	}
	return b.String()
}

// merged makes one value of each so many.
func merged(values []*float64, by int, one func([]*float64) *float64) []*float64 {
	if by == 1 {
		return values
	}
	var list []*float64
	for i := 0; i < len(values); i += by {
		list = append(list, one(values[i:min(i+by, len(values))]))
	}
	return list
}

// average is the mean of what is known, nil if nothing is.
func average(values []*float64) *float64 {
	sum, n := 0.0, 0
	for _, v := range values {
		if v != nil {
			sum, n = sum+*v, n+1
		}
	}
	if n == 0 {
		return nil
	}
	mean := sum / float64(n)
	return &mean
}

// highest is the greatest of what is known, nil if nothing is.
func highest(values []*float64) *float64 {
	var most *float64
	for _, v := range values {
		if v != nil && (most == nil || *v > *most) {
			most = v
		}
	}
	return most
}

// setLevels chooses two to four lines at round figures, and where the top is free moves it up to leave some room.
func (g *Graph) setLevels(free bool) {
	if g.top <= 0 {
		g.top, free = map[Unit]float64{Share: 0.01, Bytes: 1 << 20, Rate: 1 << 10}[g.Unit], false
	}
	if free {
		if g.top *= 1.15; g.Unit == Share {
			g.top = min(g.top, 1)
		}
	}
	step := roundStep(g.Unit, g.top/4)
	for i := 1; float64(i)*step <= g.top*1.0001 && i <= 8; i++ {
		at := float64(i) * step
		g.Levels = append(g.Levels, Level{Y: percent(1 - at/g.top), Label: g.Unit.level(at)})
	}
}

// roundStep is the smallest round figure that is not below least.
func roundStep(unit Unit, least float64) float64 {
	if unit == Share {
		for _, step := range []float64{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25} {
			if step >= least {
				return step
			}
		}
		return 0.25
	}
	step := math.Exp2(math.Ceil(math.Log2(max(least, 1))))
	// 1, 2, 4 ... 512 of one unit are followed by 1 of the next: 1024.
	return step
}

// level writes a figure without more digits than it has.
func (u Unit) level(v float64) string {
	if u == Share {
		return strconv.FormatFloat(math.Round(v*1e6)/1e4, 'f', -1, 64) + " %"
	}
	value, unit := v, 0
	for value >= 1024 && unit < len(byteUnits)-1 {
		value /= 1024
		unit++
	}
	text := strconv.FormatFloat(math.Round(value*100)/100, 'f', -1, 64) + " " + byteUnits[unit]
	if u == Rate {
		text += "/s"
	}
	return text
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1e4)/100, 'f', -1, 64) + "%"
}

// draw makes the paths of a line and of the area below it. Where nothing is known both are interrupted.
func (g *Graph) draw(values []*float64) (line, area string) {
	var l, a strings.Builder
	from := -1
	point := func(b *strings.Builder, command byte, i int) {
		b.WriteByte(command)
		b.WriteString(strconv.Itoa(i))
		b.WriteByte(' ')
		b.WriteString(strconv.FormatFloat(math.Round((1-clamp(*values[i]/g.top))*graphHeight*100)/100, 'f', -1, 64))
	}
	end := func(to int) {
		if from < 0 {
			return
		}
		if to-1 == from { // a line of no length is a dot
			point(&l, 'L', from)
		}
		a.WriteString("V" + strconv.Itoa(graphHeight) + "Z")
		from = -1
	}
	for i, v := range values {
		switch {
		case v == nil:
			end(i)
		case from < 0:
			from = i
			point(&l, 'M', i)
			a.WriteString("M" + strconv.Itoa(i) + " " + strconv.Itoa(graphHeight))
			point(&a, 'L', i)
		default:
			point(&l, 'L', i)
			point(&a, 'L', i)
		}
	}
	end(len(values))
	return l.String(), a.String()
}

// viewBox is the grid that the paths are drawn on.
func (g Graph) viewBox() string {
	return "0 0 " + strconv.Itoa(max(1, len(g.Times)-1)) + " " + strconv.Itoa(graphHeight)
}

// graphFrames are the time frames: their names in words, and what is marked on their axes.
var graphFrames = []struct {
	name, label, last string
	// round is what marks are multiples of; where they are at days of months, begins tells whether a mark belongs at a time,
	// before being the time before it.
	round  time.Duration
	begins func(before, t time.Time) bool
	format string
	local  bool
}{
	{"hour", "Hour", "the last hour", 10 * time.Minute, nil, "15:04", true},
	{"day", "Day", "the last day", 4 * time.Hour, nil, "15:04", true},
	{"week", "Week", "the last week", 24 * time.Hour, nil, "Mon 2", false},
	{"month", "Month", "the last month", 0, func(before, t time.Time) bool { return before.Day() != t.Day() && t.Day()%5 == 1 && t.Day() < 30 }, "2 Jan", false},
	{"year", "Year", "the last year", 0, func(before, t time.Time) bool { return before.Month() != t.Month() && t.Month()%2 == 1 }, "Jan", false},
}

// maxMarks bounds the marks of an axis, should a host's times be odd.
const maxMarks = 12

func timeMarks(frame string, times []int64) []TimeMark {
	var marks []TimeMark
	for _, f := range graphFrames {
		if f.name != frame {
			continue
		}
		for i := 1; i < len(times) && len(marks) < maxMarks; i++ {
			before, t := time.Unix(times[i-1], 0).UTC(), time.Unix(times[i], 0).UTC()
			x := float64(i) / float64(len(times)-1)
			begins := f.begins
			if f.round > 0 {
				before, t = before.Truncate(f.round), t.Truncate(f.round)
				begins = func(before, t time.Time) bool { return !before.Equal(t) }
			}
			if !begins(before, t) || x < 0.04 || x > 0.96 {
				continue
			}
			mark := TimeMark{X: percent(x), Label: t.Format(f.format)}
			if f.local {
				mark.Unix = strconv.FormatInt(t.Unix(), 10)
			}
			marks = append(marks, mark)
		}
	}
	return marks
}

// tableRows is how many lines the table beside the graphs has.
const tableRows = 12

// GraphTable is what graphs show as a table of few lines.
type GraphTable struct {
	Head []string
	Rows []GraphRow
}

// GraphRow is one line of a GraphTable.
type GraphRow struct {
	From  time.Time
	Cells []string
}

// NewGraphTable averages the graphs over a dozen equal parts of their time.
func NewGraphTable(graphs []Graph) GraphTable {
	var table GraphTable
	if len(graphs) == 0 {
		return table
	}
	for _, g := range graphs {
		for _, s := range g.Series {
			head := g.Title
			if len(g.Series) > 1 {
				head += ", " + strings.ToLower(s.Label)
			}
			table.Head = append(table.Head, head)
		}
	}
	times := graphs[0].Times
	by := max(1, (len(times)+tableRows-1)/tableRows)
	for i := 0; i < len(times); i += by {
		row := GraphRow{From: time.Unix(times[i], 0).UTC()}
		for _, g := range graphs {
			for _, s := range g.Series {
				cell := "unknown"
				if mean := average(s.values[min(i, len(s.values)):min(i+by, len(s.values))]); mean != nil {
					cell = g.Unit.format(*mean)
				}
				row.Cells = append(row.Cells, cell)
			}
		}
		table.Rows = append(table.Rows, row)
	}
	return table
}
