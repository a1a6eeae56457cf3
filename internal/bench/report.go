package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run found.
type Report struct {
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	Machine string    `json:"machine"`
	Rounds  int       `json:"rounds"`
	// Busy is the machine's load average before the run: of a machine that has other things to do times say little.
	Busy    float64  `json:"busy"`
	Ratios  []Ratio  `json:"ratios"`
	Figures []Figure `json:"figures"`
	Curves  []Curve  `json:"curves,omitempty"`
}

// Spread is the middle of some values, and the least and the most of them.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Low: sorted[0], High: sorted[n-1]}
}

// Ratio is how Berth compares with the reference. 1 is as many requests, or as little processor time for each.
type Ratio struct {
	Name     string  `json:"name"`
	Against  string  `json:"against"`
	Requests Spread  `json:"requests"`
	CPU      Spread  `json:"cpu"`
	Least    float64 `json:"least,omitempty"` // what is stated; 0 for what is told for comparison alone
	// Of Berth and the reference: requests per second, and microseconds of processor time for each.
	Berth        Spread  `json:"berthPerSecond"`
	Reference    Spread  `json:"referencePerSecond"`
	BerthCPU     Spread  `json:"berthCpu"`
	ReferenceCPU Spread  `json:"referenceCpu"`
	P50          float64 `json:"p50"` // of Berth, in milliseconds
	P99          float64 `json:"p99"`
}

// Far tells whether a ratio is far from what is stated, below half of it.
func (r Ratio) Far() bool { return r.Requests.Median < r.Least/2 || r.CPU.Median < r.Least/2 }

func (r Ratio) met() bool { return r.Requests.Median >= r.Least && r.CPU.Median >= r.Least }

// Figure is one thing that was measured.
type Figure struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
	Note  string  `json:"note,omitempty"`
	// Below is what it is to stay under; 0 for no bound.
	Below float64 `json:"below,omitempty"`
}

// Curve is how a cost grows.
type Curve struct {
	Name   string  `json:"name"` // of the file, too
	Title  string  `json:"title"`
	X      string  `json:"x"`
	Y      string  `json:"y"`
	Points []Point `json:"points"`
}

// Point is one place on a curve.
type Point struct {
	X float64 `json:"x"`
	Y Spread  `json:"y"`
}

// Far are the ratios that are far from what is stated.
func (r *Report) Far() []string {
	var names []string
	for _, one := range r.Ratios {
		if one.Far() {
			names = append(names, fmt.Sprintf("%s: %.2f of the requests and %.2f by processor time, stated %.2f", one.Name, one.Requests.Median, one.CPU.Median, one.Least))
		}
	}
	return names
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// tables are the report as tables of text, with their headings.
func (r *Report) tables() []table {
	ratios := table{
		title:  "Ratios",
		header: []string{"what", "beside", "requests", "spread", "processor time", "spread", "stated", "Berth/s", "reference/s", "Berth µs", "reference µs", "p50 ms", "p99 ms"},
	}
	for _, one := range r.Ratios {
		stated := "-"
		if one.Least > 0 {
			stated = "≥ " + short(one.Least)
			if !one.met() {
				stated += " (missed)"
			}
		}
		ratios.rows = append(ratios.rows, []string{
			one.Name, one.Against, short(one.Requests.Median), between(one.Requests), short(one.CPU.Median), between(one.CPU), stated,
			short(one.Berth.Median), short(one.Reference.Median), short(one.BerthCPU.Median), short(one.ReferenceCPU.Median), short(one.P50), short(one.P99),
		})
	}
	figures := table{title: "Figures", header: []string{"what", "value", "unit", "stated", "note"}}
	for _, one := range r.Figures {
		stated := "-"
		if one.Below > 0 {
			stated = "< " + short(one.Below)
			if one.Value >= one.Below {
				stated += " (missed)"
			}
		}
		figures.rows = append(figures.rows, []string{one.Name, short(one.Value), one.Unit, stated, one.Note})
	}
	all := []table{ratios, figures}
	for _, c := range r.Curves {
		t := table{title: c.Title, header: []string{c.X, c.Y, "spread"}}
		for _, p := range c.Points {
			t.rows = append(t.rows, []string{short(p.X), short(p.Y.Median), between(p.Y)})
		}
		all = append(all, t)
	}
	return slices.DeleteFunc(all, func(t table) bool { return len(t.rows) == 0 })
}

type table struct {
	title  string
	header []string
	rows   [][]string
}

// short is a number with about three digits that count.
func short(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 0.1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

func between(s Spread) string { return short(s.Low) + " to " + short(s.High) }

// head says what the figures are of.
func (r *Report) head() string {
	return fmt.Sprintf("Berth %s, %s, %s; %d rounds; load average %.1f before the run", r.Version, r.At.UTC().Format("2006-01-02 15:04 UTC"), r.Machine, r.Rounds, r.Busy)
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	fmt.Fprintln(w, r.head())
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n%s\n", t.title)
		out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, strings.Join(t.header, "\t"))
		for _, row := range t.rows {
			fmt.Fprintln(out, strings.Join(row, "\t"))
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}
