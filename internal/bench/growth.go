package bench

import (
	"context"
	"fmt"
	"time"
)

// growthRounds is how often each cost is measured at each size.
const growthRounds = 2

// growing is one size whose costs are measured.
type growing struct{ hosts, each int }

// growth measures how costs grow with the containers of one host, and with the hosts.
func (r *run) growth(ctx context.Context) error {
	containers, err := r.grow(ctx, "containers", "containers of one node", []growing{{1, 10}, {1, 100}, {1, 1000}, {1, 10_000}},
		func(g growing) float64 { return float64(g.each) })
	if err != nil {
		return err
	}
	nodes, err := r.grow(ctx, "nodes", "nodes with 100 containers each", []growing{{1, 100}, {10, 100}, {100, 100}},
		func(g growing) float64 { return float64(g.hosts) })
	r.report.Curves = append(append(r.report.Curves, containers...), nodes...)
	return err
}

// grow measures three costs at some sizes.
func (r *run) grow(ctx context.Context, name, what string, sizes []growing, of func(growing) float64) ([]Curve, error) {
	page := Curve{Name: "growth-" + name + "-page", Title: "A page of the list, by " + what, X: what, Y: "µs of processor time each"}
	watch := Curve{Name: "growth-" + name + "-watch", Title: "Watching, by " + what, X: what, Y: "ms of processor time per second"}
	memory := Curve{Name: "growth-" + name + "-memory", Title: "Memory, by " + what, X: what, Y: "MiB (PSS)"}
	for _, size := range sizes {
		r.say("%d hosts with %d containers each", size.hosts, size.each)
		g, err := r.measure(ctx, size)
		if err != nil {
			return nil, fmt.Errorf("%d hosts with %d containers each: %w", size.hosts, size.each, err)
		}
		x := of(size)
		page.Points = append(page.Points, Point{x, spread(g.page)})
		watch.Points = append(watch.Points, Point{x, spread(g.watch)})
		memory.Points = append(memory.Points, Point{x, spread(g.memory)})
	}
	return []Curve{page, watch, memory}, nil
}

// grown is what was measured at one size, round by round.
type grown struct{ page, watch, memory []float64 }

func (r *run) measure(ctx context.Context, size growing) (g grown, err error) {
	p, err := r.startPair(ctx, size.hosts, size.each, "")
	if err != nil {
		return g, err
	}
	defer p.close()
	cookies, err := p.sessions(ctx, viewersAtOnce)
	if err != nil {
		return g, err
	}
	w := newWatchers(p.Address, cookies)
	defer w.close()
	if err := w.grow(ctx, 1); err != nil {
		return g, err
	}
	targets := each(target{address: p.Address, path: "/?rows=100", gzip: true}, cookies)
	for range growthRounds {
		s, err := load(ctx, p.process, targets, r.spell/2)
		if err != nil {
			return g, err
		}
		g.page = append(g.page, s.cpuEach())
		before, err := p.cpu()
		if err != nil {
			return g, err
		}
		began := time.Now()
		if err := sleep(ctx, reports); err != nil { // one report of the hosts is in each
			return g, err
		}
		after, err := p.cpu()
		if err != nil {
			return g, err
		}
		g.watch = append(g.watch, milliseconds(after-before)/time.Since(began).Seconds())
		memory, err := p.memory()
		if err != nil {
			return g, err
		}
		g.memory = append(g.memory, memory)
	}
	return g, w.failed()
}
