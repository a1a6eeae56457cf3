package bench

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// canned is an answer that the reference sends whatever it is asked.
type canned struct {
	Header map[string][]string `json:"header"`
	Body   []byte              `json:"body"`
}

// located is the address of a process.
type located struct {
	Address string `json:"address"`
	Control string `json:"control,omitempty"`
}

// Reference is the bare server that Berth is compared with: net/http and its mux, one handler that sends what it was told,
// and one that sends two bytes. It tells its address on w and runs until ctx ends.
func Reference(ctx context.Context, w io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var same atomic.Pointer[canned]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /two", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok")) // the client may have gone
	})
	mux.HandleFunc("GET /same", func(w http.ResponseWriter, _ *http.Request) {
		answer := same.Load()
		header := w.Header()
		for name, values := range answer.Header {
			header[name] = values
		}
		_, _ = w.Write(answer.Body)
	})
	mux.HandleFunc("PUT /same", func(_ http.ResponseWriter, r *http.Request) {
		var answer canned
		if err := json.NewDecoder(r.Body).Decode(&answer); err == nil {
			same.Store(&answer)
		}
	})
	server := &http.Server{Handler: mux}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := Tell(w, located{Address: listener.Addr().String()}); err != nil {
		return err
	}
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}
