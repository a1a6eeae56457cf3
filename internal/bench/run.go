package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Options are what a run is to do.
type Options struct {
	Executable string // this program
	Version    string
	Redis      string // address for one more replica, which keeps its sessions there; "" leaves it out
	// Short is for machines that test: the ratios alone, in fewer and shorter rounds.
	Short bool
	// Cases are those to run; all if there are none.
	Cases []string
	// Profiles is a folder for profiles of Berth under load; "" for none.
	Profiles string
	Progress io.Writer
}

// The cases, in the order in which they run.
const (
	caseRatios  = "ratios"
	caseRest    = "rest"
	caseSignIn  = "signin"
	caseFleet   = "fleet"
	caseStreams = "streams"
	caseGrowth  = "growth"
)

// Cases are the names of all cases.
var Cases = []string{caseRatios, caseRest, caseSignIn, caseFleet, caseStreams, caseGrowth}

// run is one run.
type run struct {
	Options
	report *Report
	folder string // of all that the processes keep
	rounds int
	spell  time.Duration // how long one target is loaded at a time
	shared *pair         // see large; nil until it was needed
}

// Run measures, and removes all that it has made.
func Run(ctx context.Context, o Options) (*Report, error) {
	r := &run{Options: o, rounds: 7, spell: 2 * time.Second}
	if o.Short {
		r.rounds, r.spell = 3, time.Second
	}
	var err error
	if r.folder, err = os.MkdirTemp("", "berth-bench-*"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(r.folder)
	r.report = &Report{
		Version: o.Version, At: time.Now(), Rounds: r.rounds, Busy: loadAverage(),
		Machine: fmt.Sprintf("%d processors, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
	}
	defer func() { r.shared.close() }()
	for _, one := range []struct {
		name string
		run  func(context.Context) error
		long bool
	}{
		{caseRatios, r.ratios, false}, {caseRest, r.rest, true}, {caseSignIn, r.signIns, true},
		{caseFleet, r.largeFleet, true}, {caseStreams, r.streams, true}, {caseGrowth, r.growth, true},
	} {
		if o.Short && one.long || len(o.Cases) > 0 && !slices.Contains(o.Cases, one.name) {
			continue
		}
		r.say("%s", one.name)
		if err := one.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return r.report, nil
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.Progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// figure notes what was measured.
func (r *run) figure(name string, value float64, unit string, below float64, note string) {
	r.report.Figures = append(r.report.Figures, Figure{Name: name, Value: value, Unit: unit, Below: below, Note: note})
}

// loadAverage is the machine's, over the last minute; 0 where it is not known.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var one float64
	_, _ = fmt.Sscan(string(text), &one) // what can't be read is not known
	return one
}

// data is a new data folder.
func (r *run) data() (string, error) { return os.MkdirTemp(r.folder, "data-*") }

// startFleet starts simulated hosts.
func (r *run) startFleet(ctx context.Context, hosts, containers int) (fleet, *process, error) {
	var f fleet
	p, err := start(ctx, r.Executable, &f, "bench", "fleet", "--hosts", fmt.Sprint(hosts), "--containers", fmt.Sprint(containers))
	return f, p, err
}

// pair is a fleet with a Berth that somebody has signed in to.
type pair struct {
	fleet fleet
	hosts *process
	*site
	folder string // of Berth's data
	cookie string
}

// startPair starts a fleet and a Berth in which root@pam has all hosts as nodes, and waits until all is listed.
func (r *run) startPair(ctx context.Context, hosts, containers int, redis string) (p *pair, err error) {
	p = &pair{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.fleet, p.hosts, err = r.startFleet(ctx, hosts, containers); err != nil {
		return p, err
	}
	if p.folder, err = r.data(); err != nil {
		return p, err
	}
	if p.site, err = startSite(ctx, r.Executable, p.folder, redis); err != nil {
		return p, err
	}
	if p.cookie, err = p.signIn(ctx, p.fleet.Hosts[0], "root", "pam"); err != nil {
		return p, err
	}
	if err = p.addNodes(ctx, p.fleet, p.fleet.Hosts[1:], p.cookie); err != nil {
		return p, err
	}
	_, err = p.untilListed(ctx, p.cookie, hosts*containers)
	return p, err
}

// sessions are further sessions of root@pam.
func (p *pair) sessions(ctx context.Context, n int) ([]string, error) {
	cookies := make([]string, n)
	for i := range cookies {
		var err error
		if cookies[i], err = p.signIn(ctx, p.fleet.Hosts[0], "root", "pam"); err != nil {
			return nil, err
		}
	}
	return cookies, nil
}

func (p *pair) close() {
	if p == nil {
		return
	}
	if p.site != nil {
		p.site.close()
	}
	p.hosts.close()
}

// profile keeps a profile of Berth, taken while it is loaded.
func (r *run) profile(ctx context.Context, s *site, name string, targets []target) error {
	if r.Profiles == "" {
		return nil
	}
	taken := make(chan error, 1)
	go func() {
		text, err := ask(ctx, "GET", s.Control, "/profile?seconds=3")
		if err == nil {
			err = os.WriteFile(filepath.Join(r.Profiles, strings.ReplaceAll(name, " ", "-")+".cpu.pprof"), text, 0o644)
		}
		taken <- err
	}()
	_, err := load(ctx, s.process, targets, 3500*time.Millisecond)
	return errors.Join(err, <-taken)
}
