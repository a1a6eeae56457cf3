package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"berth/internal/pve/sim"
)

const (
	// signInsTimed is how often signing in is timed.
	signInsTimed = 200
	// renewed is how many sessions are renewed at once.
	renewed = 1000
	// old is the age at which tickets are due for renewal.
	old = 61 * time.Minute
)

// signIns measures how long Berth takes to sign somebody in beyond what the host takes, and a thousand renewals at once.
func (r *run) signIns(ctx context.Context) error {
	p, err := r.startPair(ctx, 1, 100, "")
	if err != nil {
		return err
	}
	defer p.close()

	// What does Berth ask a host for one sign-in? What is read for the list of containers must not be among it.
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	since := time.Now()
	if _, err := p.signIn(ctx, p.fleet.Hosts[0], userName(0), "pve"); err != nil {
		return err
	}
	seen, err := p.fleet.asked(ctx, since)
	if err != nil {
		return err
	}
	direct := &directClient{host: p.fleet.Hosts[0], client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // a simulated host on loopback, to time it
	}}}
	var here, there, own []float64
	for i := range signInsTimed {
		began := time.Now()
		cookie, err := p.signIn(ctx, p.fleet.Hosts[0], userName(i), "pve")
		if err != nil {
			return err
		}
		whole := time.Since(began)
		hosts, err := direct.repeat(ctx, seen.First, userName(i)+"@pve")
		if err != nil {
			return err
		}
		here, there, own = append(here, milliseconds(whole)), append(there, milliseconds(hosts)), append(own, milliseconds(whole-hosts))
		if err := p.signOut(ctx, cookie); err != nil {
			return err
		}
	}
	r.figure("a sign-in", spread(here).Median, "ms", 0, between(spread(here)))
	r.figure("the host's share of it", spread(there).Median, "ms", 0, fmt.Sprintf("the same %d requests without Berth, %s", len(seen.First), between(spread(there))))
	r.figure("Berth's own share of a sign-in", spread(own).Median, "ms", 5, between(spread(own)))
	return r.renewals(ctx, p)
}

// renewals lets the tickets of a thousand sessions become due, and uses all of them at once.
func (r *run) renewals(ctx context.Context, p *pair) error {
	cookies := make([]string, renewed)
	for i := range cookies {
		var err error
		if cookies[i], err = p.signIn(ctx, p.fleet.Hosts[0], userName(i), "pve"); err != nil {
			return err
		}
	}
	if err := setClock(ctx, p.Control, old); err != nil {
		return err
	}
	seen, err := p.fleet.asked(ctx, time.Now())
	if err != nil {
		return err
	}
	before, began := seen.Tickets, time.Now()
	use := func(cookie string) error {
		_, err := p.call(ctx, http.MethodGet, "/api/auth/session", cookie, nil, nil)
		return err
	}
	problems := make([]error, len(cookies))
	slots := make(chan struct{}, 64)
	var wg sync.WaitGroup
	for i, cookie := range cookies {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			problems[i] = use(cookie)
		})
	}
	wg.Wait()
	answered := time.Since(began)
	if err := errors.Join(problems...); err != nil {
		return err
	}
	// Requests wait for no renewal: they begin one, or leave it to the minute's round if the host has enough to do.
	for {
		if seen, err = p.fleet.asked(ctx, began); err != nil {
			return err
		}
		tickets := seen.Tickets - before
		if tickets >= renewed {
			r.figure("1,000 sessions renewed at once", time.Since(began).Seconds(), "s", 0, fmt.Sprintf("all requests answered after %.1f s; %d renewals", answered.Seconds(), tickets))
			break
		}
		if time.Since(began) > 5*time.Minute {
			return fmt.Errorf("only %d of %d sessions renewed", tickets, renewed)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		for _, cookie := range cookies {
			if err := use(cookie); err != nil {
				return err
			}
		}
	}
	for i, cookie := range cookies {
		problems[i] = use(cookie)
	}
	return errors.Join(problems...)
}

// directClient asks a host what Berth asks it.
type directClient struct {
	host   host
	client *http.Client
}

// repeat does what Berth did for a sign-in, for another user, and returns how long the host took.
func (d *directClient) repeat(ctx context.Context, requests []string, user string) (time.Duration, error) {
	began := time.Now()
	ticket := ""
	for _, one := range requests {
		method, path, _ := strings.Cut(one, " ")
		form := ""
		if method == http.MethodPost {
			form = url.Values{"username": {user}, "password": {sim.DefaultPassword}, "new-format": {"1"}}.Encode()
		}
		r, err := http.NewRequestWithContext(ctx, method, "https://"+d.host.Address+path, bytes.NewReader([]byte(form)))
		if err != nil {
			return 0, err
		}
		if form != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if ticket != "" {
			r.Header.Set("Cookie", "PVEAuthCookie="+url.QueryEscape(ticket))
		}
		answer, err := d.client.Do(r)
		if err != nil {
			return 0, err
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return 0, err
		}
		if answer.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("%s answered %s, and should not have been asked for a sign-in", one, answer.Status)
		}
		var told struct {
			Data struct {
				Ticket string `json:"ticket"`
			} `json:"data"`
		}
		if method == http.MethodPost {
			if err := json.Unmarshal(body, &told); err != nil || told.Data.Ticket == "" {
				return 0, fmt.Errorf("%s answered %s", one, answer.Status)
			}
			ticket = told.Data.Ticket
		}
	}
	return time.Since(began), nil
}
