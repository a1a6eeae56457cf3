package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// The ratios that are stated, and the slowest answers in milliseconds.
const (
	leastSession   = 0.6
	leastDashboard = 0.12
	slowDashboard  = 20
)

// compared is something that is loaded, round by round.
type compared struct {
	name    string
	server  *process
	targets []target
	samples []sample
}

// ratios compares the check of a session and the page of all containers with the reference.
func (r *run) ratios(ctx context.Context) error {
	p, err := r.startPair(ctx, 1, 100, "")
	if err != nil {
		return err
	}
	defer p.close()
	cookies, err := p.sessions(ctx, connections)
	if err != nil {
		return err
	}
	var place located
	reference, err := start(ctx, r.Executable, &place, "bench", "reference")
	if err != nil {
		return err
	}
	defer reference.close()

	check := each(target{address: p.Address, path: "/api/auth/session"}, cookies)
	page := each(target{address: p.Address, path: "/?rows=100", gzip: true}, cookies)
	if err := sendSame(ctx, place.Address, check[0]); err != nil {
		return err
	}
	if err := wholePage(ctx, page[0], 100); err != nil {
		return err
	}
	if err := p.fleet.changing(ctx, time.Second); err != nil {
		return err
	}
	two := &compared{name: "two bytes", server: reference, targets: each(target{address: place.Address, path: "/two"}, cookies)}
	same := &compared{name: "the same bytes and headers", server: reference, targets: each(target{address: place.Address, path: "/same"}, cookies)}
	embedded := &compared{name: "session check", server: p.process, targets: check}
	dashboard := &compared{name: "dashboard page, 100 containers", server: p.process, targets: page}
	all := []*compared{same, embedded, two, dashboard}

	var shared *compared
	if r.Redis != "" {
		other, err := r.startPair(ctx, 1, 100, r.Redis)
		if err != nil {
			return err
		}
		defer other.close()
		cookies, err := other.sessions(ctx, connections)
		if err != nil {
			return err
		}
		shared = &compared{name: "session check, Redis", server: other.process, targets: each(target{address: other.Address, path: "/api/auth/session"}, cookies)}
		if err := r.profile(ctx, other.site, shared.name, shared.targets); err != nil {
			return err
		}
		all = append(all, shared)
	}
	for _, one := range []*compared{embedded, dashboard} {
		if err := r.profile(ctx, p.site, one.name, one.targets); err != nil {
			return err
		}
	}
	for round := range r.rounds {
		for _, one := range all {
			s, err := load(ctx, one.server, one.targets, r.spell)
			if err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
			one.samples = append(one.samples, s)
		}
		r.say("round %d of %d", round+1, r.rounds)
	}
	r.compare(embedded, same, leastSession)
	if shared != nil {
		r.compare(shared, same, leastSession)
	}
	of := r.compare(dashboard, two, leastDashboard)
	r.figure("p99 of the dashboard page, 16 connections", of.P99, "ms", slowDashboard, "")
	memory, err := p.memory()
	if err != nil {
		return err
	}
	r.figure("memory after that load", memory, "MiB (PSS)", 80, "embedded store")
	// What was loaded must still be what it was.
	return errors.Join(wholePage(ctx, page[0], 100), p.fleet.changing(ctx, 0))
}

// each is a target for each of some sessions.
func each(t target, cookies []string) []target {
	all := make([]target, len(cookies))
	for i, c := range cookies {
		all[i] = t
		all[i].cookie = c
	}
	return all
}

// sendSame makes the reference send what a target answers.
func sendSame(ctx context.Context, reference string, t target) error {
	answer, body, err := t.answer(ctx)
	if err != nil {
		return err
	}
	same := canned{Header: answer.Header, Body: body}
	for _, name := range []string{"Date", "Content-Length"} { // net/http sets them
		answer.Header.Del(name)
	}
	text, err := json.Marshal(same)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+reference+"/same", bytes.NewReader(text))
	if err != nil {
		return err
	}
	put, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	return put.Body.Close()
}

// wholePage tells whether a compressed page has a row for each container.
func wholePage(ctx context.Context, t target, containers int) error {
	_, body, err := t.answer(ctx)
	if err != nil {
		return err
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the page is not compressed: %w", err)
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		return err
	}
	for vmid := 100; vmid < 100+containers; vmid++ {
		if !bytes.Contains(text, fmt.Appendf(nil, "/%d\"", vmid)) {
			return fmt.Errorf("the page of %d bytes has no container %d", len(text), vmid)
		}
	}
	return nil
}

// compare notes how one thing compares with another. Ratios are of the same round, so that what slows the machine down for
// a while slows down both.
func (r *run) compare(berth, reference *compared, least float64) Ratio {
	out := Ratio{Name: berth.name, Against: reference.name, Least: least}
	var requests, cpu, perSecond, referencePerSecond, each, referenceEach []float64
	var times []time.Duration
	for i, b := range berth.samples {
		f := reference.samples[i]
		perSecond, referencePerSecond = append(perSecond, b.perSecond()), append(referencePerSecond, f.perSecond())
		each, referenceEach = append(each, b.cpuEach()), append(referenceEach, f.cpuEach())
		requests = append(requests, b.perSecond()/f.perSecond())
		cpu = append(cpu, f.cpuEach()/b.cpuEach())
		times = append(times, b.times...)
	}
	out.Requests, out.CPU = spread(requests), spread(cpu)
	out.Berth, out.Reference = spread(perSecond), spread(referencePerSecond)
	out.BerthCPU, out.ReferenceCPU = spread(each), spread(referenceEach)
	out.P50, out.P99 = milliseconds(quantile(times, 0.5)), milliseconds(quantile(times, 0.99))
	r.report.Ratios = append(r.report.Ratios, out)
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
