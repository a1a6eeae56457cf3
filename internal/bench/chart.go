package bench

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// The places of a chart, in its own units.
const (
	chartWidth, chartHeight  = 640, 360
	left, right, top, bottom = 70, 20, 40, 50
)

// axis maps values to places along one side of a chart, by their logarithms: what grows is told by the slope.
type axis struct{ least, most, from, to float64 }

func newAxis(values []float64, from, to float64) axis {
	a := axis{least: math.Inf(1), most: math.Inf(-1), from: from, to: to}
	for _, v := range values {
		a.least, a.most = min(a.least, v), max(a.most, v)
	}
	a.least = math.Pow(10, math.Floor(math.Log10(a.least)))
	a.most = math.Pow(10, math.Ceil(math.Log10(a.most)))
	if a.most == a.least {
		a.most *= 10
	}
	return a
}

func (a axis) at(v float64) float64 {
	part := (math.Log10(v) - math.Log10(a.least)) / (math.Log10(a.most) - math.Log10(a.least))
	return a.from + part*(a.to-a.from)
}

// ticks are the powers of ten.
func (a axis) ticks() []float64 {
	var all []float64
	for v := a.least; v <= a.most*1.001; v *= 10 {
		all = append(all, v)
	}
	return all
}

// SVG draws the curve: the middles as a line, the spread as bars. It takes its colours from whoever looks at it, light or
// dark.
func (c Curve) SVG() []byte {
	var xs, ys []float64
	for _, p := range c.Points {
		xs, ys = append(xs, p.X), append(ys, positive(p.Y.Low), positive(p.Y.High))
	}
	x := newAxis(xs, left, chartWidth-right)
	y := newAxis(ys, chartHeight-bottom, top)
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", chartWidth, chartHeight, html.EscapeString(c.Title))
	b.WriteString(`<style>text{font:12px sans-serif;fill:#334155}.t{font-size:14px;font-weight:600}.g{stroke:#94a3b8;stroke-opacity:.4}.l{fill:none;stroke:#2563eb;stroke-width:2}.p{fill:#2563eb}.b{stroke:#2563eb;stroke-opacity:.5;stroke-width:2}.f{fill:#fff}` +
		`@media(prefers-color-scheme:dark){text{fill:#cbd5e1}.l,.b{stroke:#60a5fa}.p{fill:#60a5fa}.f{fill:#0f172a}}</style>` + "\n")
	fmt.Fprintf(&b, `<rect class="f" width="%d" height="%d"/>`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&b, `<text class="t" x="%d" y="22">%s</text>`+"\n", left, html.EscapeString(c.Title))
	for _, v := range x.ticks() {
		fmt.Fprintf(&b, `<line class="g" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x.at(v), x.at(v), top, chartHeight-bottom, x.at(v), chartHeight-bottom+18, plain(v))
	}
	for _, v := range y.ticks() {
		fmt.Fprintf(&b, `<line class="g" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, chartWidth-right, y.at(v), y.at(v), left-8, y.at(v)+4, plain(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+chartWidth-right)/2, chartHeight-12, html.EscapeString(c.X))
	fmt.Fprintf(&b, `<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (top+chartHeight-bottom)/2, html.EscapeString(c.Y))
	var line strings.Builder
	for _, p := range c.Points {
		middle := y.at(positive(p.Y.Median))
		fmt.Fprintf(&line, "%.1f,%.1f ", x.at(p.X), middle)
		fmt.Fprintf(&b, `<line class="b" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><circle class="p" cx="%.1f" cy="%.1f" r="4"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n",
			x.at(p.X), x.at(p.X), y.at(positive(p.Y.Low)), y.at(positive(p.Y.High)), x.at(p.X), middle, x.at(p.X), middle-12, short(p.Y.Median))
	}
	fmt.Fprintf(&b, `<polyline class="l" points="%s"/>`+"\n</svg>\n", strings.TrimSpace(line.String()))
	return b.Bytes()
}

// positive is a value that has a logarithm.
func positive(v float64) float64 { return max(v, 1e-3) }

// plain is a power of ten.
func plain(v float64) string {
	if v >= 1 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%g", v)
}

// Document writes performance.md and the pictures of the curves into a folder of documentation.
func (r *Report) Document(folder string) error {
	var b strings.Builder
	b.WriteString("# Performance\n\n")
	b.WriteString("This page is written by `berth bench --write docs`, which anybody can run: it starts a simulated fleet, Berth and a bare\n" +
		"`net/http` server on the same machine and loads them in turn. What counts are the ratios. Requests per second and times\n" +
		"depend on the machine, and on what else it does.\n\n")
	b.WriteString(r.head() + ".\n")
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "\n## %s\n\n%s", t.title, explained[t.title])
		b.WriteString("| " + strings.Join(t.header, " | ") + " |\n|" + strings.Repeat(" --- |", len(t.header)) + "\n")
		for _, row := range t.rows {
			b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		}
		for _, c := range r.Curves {
			if c.Title == t.title {
				fmt.Fprintf(&b, "\n![%s](pictures/%s.svg)\n", c.Title, c.Name)
			}
		}
	}
	b.WriteString(howItWorks)
	problems := []error{os.WriteFile(filepath.Join(folder, "performance.md"), []byte(b.String()), 0o644)}
	pictures := filepath.Join(folder, "pictures")
	problems = append(problems, os.MkdirAll(pictures, 0o755))
	for _, c := range r.Curves {
		problems = append(problems, os.WriteFile(filepath.Join(pictures, c.Name+".svg"), c.SVG(), 0o644))
	}
	return errors.Join(problems...)
}

// explained says how to read a table.
var explained = map[string]string{
	"Ratios": "16 connections, each with a session of its own, ask as fast as they are answered. A ratio of 0.5 is half of the reference's\n" +
		"requests per second, or twice its processor time for each request; both are of the same round, and the spread is from the\n" +
		"lowest round to the highest. The reference answers the very bytes and headers that Berth does, or two bytes. The dashboard\n" +
		"page is asked for with all its 100 rows, compressed, without `If-None-Match`, while a container of the host changes every\n" +
		"second; every request checks its session.\n\n",
}

const howItWorks = `
## What makes it so

A session in use is checked in memory. The list of containers is one snapshot for all who see the same, sorted and searched in
memory. A page of it is built and compressed once for each version of what it shows, at most once a second, and the compressed
bytes are sent to everybody of the same identity who asks for the same view. Events are encoded once for all streams.

It stops there on purpose. Headers, context and routing are net/http's own, in front of every request alike; pages other than
the list are built for each request; and answers of the API are not compressed, since a proxy can do that for those that gain
by it.
`
