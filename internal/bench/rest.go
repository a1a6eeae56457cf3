package bench

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"
)

const (
	mebibyte = 1 << 20
	// settled is how long after the first sign-in a Berth counts as at rest.
	settled = 10 * time.Second
	// comings is how many sign-ins and sign-outs must leave nothing behind.
	comings = 1000
)

// rest measures what Berth takes when nobody does anything, how soon it answers, and whether sessions leave anything.
func (r *run) rest(ctx context.Context) error {
	info, err := os.Stat(r.Executable)
	if err != nil {
		return err
	}
	r.figure("binary", float64(info.Size())/mebibyte, "MiB", 0, "")
	f, hosts, err := r.startFleet(ctx, 1, 100)
	if err != nil {
		return err
	}
	defer hosts.close()

	fresh, existing := make([]float64, r.rounds), make([]float64, r.rounds)
	for i := range r.rounds {
		folder, err := r.data()
		if err != nil {
			return err
		}
		if fresh[i], err = r.untilAnswer(ctx, folder); err != nil {
			return err
		}
		if existing[i], err = r.untilAnswer(ctx, folder); err != nil {
			return err
		}
	}
	of := spread(fresh)
	r.figure("start to first answer, new data folder", of.Median, "ms", 500, between(of))
	of = spread(existing)
	r.figure("start to first answer, existing data folder", of.Median, "ms", 100, between(of))

	folder, err := r.data()
	if err != nil {
		return err
	}
	s, err := startSite(ctx, r.Executable, folder, "")
	if err != nil {
		return err
	}
	defer s.close()
	cookie, err := s.signIn(ctx, f.Hosts[0], "root", "pam")
	if err != nil {
		return err
	}
	if _, err := s.untilListed(ctx, cookie, 100); err != nil {
		return err
	}
	if err := sleep(ctx, settled); err != nil {
		return err
	}
	memory, err := s.memory()
	if err != nil {
		return err
	}
	r.figure("memory 10 s after the first sign-in", memory, "MiB (PSS)", 40, "embedded store")
	return r.comings(ctx, s, f)
}

// untilAnswer starts the program as an operator would, and returns how many milliseconds it took to its first answer.
func (r *run) untilAnswer(ctx context.Context, folder string) (ms float64, err error) {
	began := time.Now()
	s, err := startSite(ctx, r.Executable, folder, "")
	if err != nil {
		return 0, err
	}
	defer s.close()
	if _, err := s.call(ctx, http.MethodGet, "/healthz", "", nil, nil); err != nil {
		return 0, err
	}
	return milliseconds(time.Since(began)), nil
}

// comings tells what a thousand sign-ins and sign-outs leave behind.
func (r *run) comings(ctx context.Context, s *site, f fleet) error {
	in := func(i int) error {
		cookie, err := s.signIn(ctx, f.Hosts[0], userName(i), "pve")
		if err != nil {
			return err
		}
		return s.signOut(ctx, cookie)
	}
	// What is made once for all is there afterwards.
	for i := range users {
		if err := in(i); err != nil {
			return err
		}
	}
	goroutinesBefore, filesBefore, err := s.held(ctx)
	if err != nil {
		return err
	}
	for i := range comings {
		if err := in(i); err != nil {
			return err
		}
	}
	goroutinesAfter, filesAfter, err := s.held(ctx)
	if err != nil {
		return err
	}
	r.figure("goroutines after 1,000 sign-ins and sign-outs", float64(goroutinesAfter), "", float64(goroutinesBefore+5), fmt.Sprintf("%d before", goroutinesBefore))
	r.figure("open files after 1,000 sign-ins and sign-outs", float64(filesAfter), "", float64(filesBefore+5), fmt.Sprintf("%d before", filesBefore))
	memory, err := s.memory()
	r.figure("memory after 1,000 sign-ins and sign-outs", memory, "MiB (PSS)", 0, "")
	return err
}

// held is what a Berth holds once its idle connections have closed.
func (s *site) held(ctx context.Context) (routines, files int, err error) {
	http.DefaultClient.CloseIdleConnections()
	if err := sleep(ctx, 6*time.Second); err != nil { // hosts close theirs after 5 s
		return 0, 0, err
	}
	if files, err = s.files(); err != nil {
		return 0, 0, err
	}
	routines, err = goroutines(ctx, s.Control)
	return routines, files, err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
