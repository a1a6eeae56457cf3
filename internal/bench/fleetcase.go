package bench

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	// The fleet whose figures are stated.
	fleetHosts, fleetEach = 100, 100
	// viewersAtOnce is how many clients ask for parts of the fleet at the same time.
	viewersAtOnce = 4
	slowFleet     = 50
)

// large is the pair that the cases of the large fleet share: to start it takes longer than they do.
func (r *run) large(ctx context.Context) (*pair, error) {
	if r.shared != nil {
		return r.shared, nil
	}
	r.say("starting %d hosts with %d containers each", fleetHosts, fleetEach)
	p, err := r.startPair(ctx, fleetHosts, fleetEach, "")
	if err != nil {
		return nil, err
	}
	r.shared = p
	return p, nil
}

// largeFleet measures how long lists of the large fleet take, from a Berth that has just started and from one that is warm.
func (r *run) largeFleet(ctx context.Context) error {
	p, err := r.large(ctx)
	if err != nil {
		return err
	}
	if err := r.first(ctx, p); err != nil {
		return err
	}
	cookies, err := p.sessions(ctx, viewersAtOnce)
	if err != nil {
		return err
	}
	for _, one := range []struct{ name, path string }{
		{"the list, 1,000 of 10,000", "/api/containers"},
		{"a search", "/api/containers?q=grafana+monitoring&limit=100"},
		{"one page of the list", "/api/containers?sort=-cpu&limit=100"},
		{"the page", "/?rows=100"},
	} {
		t := target{address: p.Address, path: one.path, gzip: one.path[:2] == "/?"}
		targets := each(t, cookies)
		if err := r.profile(ctx, p.site, "fleet "+one.name, targets); err != nil {
			return err
		}
		s, err := load(ctx, p.process, targets, 2*r.spell)
		if err != nil {
			return err
		}
		r.figure("100 nodes x 100 containers, p99 of "+one.name, milliseconds(quantile(s.times, 0.99)), "ms", slowFleet,
			fmt.Sprintf("p50 %s ms, %d connections, %s/s, %s ms of processor time each", short(milliseconds(quantile(s.times, 0.5))), viewersAtOnce, short(s.perSecond()), short(s.cpuEach()/1000)))
	}
	return nil
}

// first restarts Berth and measures what the first one to come waits for.
func (r *run) first(ctx context.Context, p *pair) error {
	ahead := p.ahead
	p.site.close()
	again, err := startSite(ctx, r.Executable, p.folder, "")
	if err != nil {
		return err
	}
	again.ahead = ahead
	p.site = again
	if err := setClock(ctx, p.Control, ahead); err != nil {
		return err
	}
	if p.cookie, err = p.signIn(ctx, p.fleet.Hosts[0], "root", "pam"); err != nil {
		return err
	}
	began := time.Now()
	if _, err := p.call(ctx, http.MethodGet, "/api/containers?limit=100", p.cookie, nil, nil); err != nil {
		return err
	}
	r.figure("100 nodes x 100 containers, first answer after a start", milliseconds(time.Since(began)), "ms", 0, "with whatever had been read by then")
	_, err = p.untilListed(ctx, p.cookie, fleetHosts*fleetEach)
	r.figure("100 nodes x 100 containers, all 10,000 listed after a start", milliseconds(time.Since(began)), "ms", 0, "")
	return err
}
