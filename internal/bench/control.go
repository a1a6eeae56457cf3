package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"time"
)

// Control is what a measured process can be asked beside its work, on an address of its own.
type Control struct {
	mux      *http.ServeMux
	listener net.Listener
	ahead    atomic.Int64
}

// NewControl listens on a free port of loopback.
func NewControl() (*Control, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &Control{mux: http.NewServeMux(), listener: l}
	c.mux.HandleFunc("POST /clock", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("ahead"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.ahead.Store(int64(d))
	})
	c.mux.HandleFunc("GET /goroutines", func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC()
		fmt.Fprint(w, runtime.NumGoroutine())
	})
	c.mux.HandleFunc("GET /stacks", func(w http.ResponseWriter, _ *http.Request) {
		_ = pprof.Lookup("goroutine").WriteTo(w, 1) // the client may have gone
	})
	c.mux.HandleFunc("GET /heap", func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC()
		_ = pprof.Lookup("heap").WriteTo(w, 0)
	})
	c.mux.HandleFunc("GET /profile", func(w http.ResponseWriter, r *http.Request) {
		seconds, err := strconv.ParseFloat(r.FormValue("seconds"), 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := pprof.StartCPUProfile(w); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		defer pprof.StopCPUProfile()
		select {
		case <-time.After(time.Duration(seconds * float64(time.Second))):
		case <-r.Context().Done():
		}
	})
	return c, nil
}

// Now is the process's clock.
func (c *Control) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Address is where the control listens.
func (c *Control) Address() string { return c.listener.Addr().String() }

// Serve answers until the listener is closed.
func (c *Control) Serve() error { return http.Serve(c.listener, c.mux) }

// Tell writes the line by which a measured process says that it can be used.
func Tell(w io.Writer, what any) error { return json.NewEncoder(w).Encode(what) }

// UntilClosed is a context that ends with a process's standard input, which the program that started it holds open.
func UntilClosed(ctx context.Context) context.Context {
	ctx, end := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	return ctx
}

// ask sends a request to a control and returns the answer's body.
func ask(ctx context.Context, method, address, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(string(body))
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return body, nil
}

// setClock sets a process's clock ahead.
func setClock(ctx context.Context, address string, ahead time.Duration) error {
	_, err := ask(ctx, http.MethodPost, address, "/clock?ahead="+ahead.String())
	return err
}

// goroutines is how many goroutines a process has, after a collection.
func goroutines(ctx context.Context, address string) (int, error) {
	text, err := ask(ctx, http.MethodGet, address, "/goroutines")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}
