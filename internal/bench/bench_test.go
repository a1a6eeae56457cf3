package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   Spread
	}{
		"none": {nil, Spread{}},
		"one":  {[]float64{3}, Spread{3, 3, 3}},
		"odd":  {[]float64{9, 1, 4}, Spread{4, 1, 9}},
		"even": {[]float64{8, 2, 4, 1}, Spread{3, 1, 8}},
	} {
		if got := spread(c.values); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	var of []time.Duration
	for i := range 100 {
		of = append(of, time.Duration(99-i))
	}
	if got := quantile(of, 0.99); got != 99 {
		t.Errorf("p99 of 0 to 99 is %d", got)
	}
	if got := quantile(of, 0.5); got != 50 {
		t.Errorf("p50 of 0 to 99 is %d", got)
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("p50 of nothing is %d", got)
	}
}

// A ratio is far off below half of what is stated, whichever half of it is.
func TestFar(t *testing.T) {
	r := Report{Ratios: []Ratio{
		{Name: "slow", Least: 0.6, Requests: Spread{Median: 0.29}, CPU: Spread{Median: 0.7}},
		{Name: "dear", Least: 0.6, Requests: Spread{Median: 0.7}, CPU: Spread{Median: 0.29}},
		{Name: "near", Least: 0.6, Requests: Spread{Median: 0.31}, CPU: Spread{Median: 0.31}},
		{Name: "not stated", Requests: Spread{Median: 0.01}, CPU: Spread{Median: 0.01}},
	}}
	if far := strings.Join(r.Far(), "\n"); strings.Count(far, "\n") != 1 || !strings.Contains(far, "slow") || !strings.Contains(far, "dear") {
		t.Errorf("far: %s", far)
	}
}

// What is answered in another way than it must be is never counted.
func TestLoadRefusesWrongAnswers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, strings.Repeat("x", 5000))
			_ = http.NewResponseController(w).Flush()
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	address := server.Listener.Addr().String()
	for path, want := range map[string]int{"/plain": 2, "/chunked": 15_000} {
		c, err := dial(t.Context(), target{address: address, path: path})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if n, err := c.ask(); err != nil || n != want {
				t.Errorf("%s: %d bytes, %v; want %d", path, n, err, want)
			}
		}
		c.close()
	}
	self := &process{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}
	for name, bad := range map[string]target{
		"not found":      {address: address, path: "/nowhere"},
		"not compressed": {address: address, path: "/plain", gzip: true},
	} {
		if _, err := load(t.Context(), self, []target{bad}, time.Millisecond); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s, err := load(t.Context(), self, []target{{address: address, path: "/plain"}}, 10*time.Millisecond)
	if err != nil || s.requests == 0 || len(s.times) != s.requests {
		t.Errorf("%d requests, %d times, %v", s.requests, len(s.times), err)
	}
}

// What is told of a process can be read of this one.
func TestProcess(t *testing.T) {
	self := &process{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}
	if _, err := os.Stat(self.file("stat")); errors.Is(err, os.ErrNotExist) {
		t.Skip("there is no /proc here")
	}
	for began := time.Now(); time.Since(began) < 50*time.Millisecond; {
	}
	if d, err := self.cpu(); err != nil || d <= 0 {
		t.Errorf("processor time %v, %v", d, err)
	}
	if m, err := self.memory(); err != nil || m < 1 {
		t.Errorf("memory %v MiB, %v", m, err)
	}
	if n, err := self.files(); err != nil || n < 3 {
		t.Errorf("%d open files, %v", n, err)
	}
}

func TestDocument(t *testing.T) {
	r := Report{
		Version: "v1", Rounds: 3,
		Ratios:  []Ratio{{Name: "session check", Against: "the same bytes", Least: 0.6, Requests: Spread{0.5, 0.4, 0.6}, CPU: Spread{0.7, 0.6, 0.8}}},
		Figures: []Figure{{Name: "binary", Unit: "MiB", Value: 50}},
		Curves: []Curve{{Name: "growth", Title: "Memory & more", X: "nodes", Y: "MiB", Points: []Point{
			{1, Spread{20, 19, 22}}, {10, Spread{30, 30, 30}}, {100, Spread{99, 90, 120}},
		}}},
	}
	folder := t.TempDir()
	if err := r.Document(folder); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(folder, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"session check", "≥ 0.60 (missed)", "binary", "pictures/growth.svg", "19.0 to 22.0"} {
		if !bytes.Contains(page, []byte(part)) {
			t.Errorf("performance.md has no %q:\n%s", part, page)
		}
	}
	picture, err := os.ReadFile(filepath.Join(folder, "pictures", "growth.svg"))
	if err != nil {
		t.Fatal(err)
	}
	dots := 0
	for d := xml.NewDecoder(bytes.NewReader(picture)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			dots++
		}
	}
	if dots != 3 {
		t.Errorf("the picture has %d dots of 3", dots)
	}
}
