package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// patience is how long a test waits for what takes a moment, far longer than it takes.
const patience = 30 * time.Second

const testVersion = "v0.0.0-test"

// binary is the program under test, built once as a release is.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	folder, err := os.MkdirTemp("", "berth-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "berth")
	build := exec.Command("go", "build", "-ldflags", "-X main.version="+testVersion, "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// output is what a process has written so far, for a test that waits for more of it.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func newOutput() *output { return &output{grown: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.grown)
	o.grown = make(chan struct{})
	return o.text.Write(p)
}

// now is what there is, and a channel that closes when there is more.
func (o *output) now() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.grown
}

func (o *output) String() string {
	text, _ := o.now()
	return text
}

// process is a running program.
type process struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err *output
	ended    chan struct{} // closed when it has, with code set
	code     int
}

// start runs the program with nothing in its environment but what is given, and kills it with the test.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), out: newOutput(), err: newOutput(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}, env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit status says it all
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.ended
		for _, secret := range []string{sim.DefaultPassword, "PVE:root@pam:", "PVE:alice@pve:", "panic"} {
			if strings.Contains(p.err.String(), secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	})
	return p
}

// await waits until the process has written something that matches, and returns the first group of it.
func (p *process) await(o *output, pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(patience)
	ended := p.ended
	for {
		text, grown := o.now()
		if m := re.FindStringSubmatch(text); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-grown:
		case <-ended:
			ended = nil // what it wrote last is looked at once more
			if text, _ = o.now(); !re.MatchString(text) {
				p.t.Fatalf("ended with %d before it wrote %q\nstdout: %s\nstderr: %s", p.code, pattern, p.out, p.err)
			}
		case <-limit:
			p.t.Fatalf("did not write %q\nstdout: %s\nstderr: %s", pattern, p.out, p.err)
		}
	}
}

// end waits for the end and returns the exit status.
func (p *process) end() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.code
	case <-time.After(patience):
		p.t.Fatalf("did not end\nstdout: %s\nstderr: %s", p.out, p.err)
		return -1
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// stop ends the process as an operator does, and expects that it ends well.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != 0 {
		p.t.Fatalf("exit status %d after SIGTERM\nstderr: %s", code, p.err)
	}
}

// refused runs a command that must fail by itself, and returns what it said about why.
func refused(t *testing.T, env []string, args ...string) string {
	t.Helper()
	return ends(t, statusFailed, env, args...)
}

// misused runs a command that must find fault with how it was called, and returns what it said about it.
func misused(t *testing.T, env []string, args ...string) string {
	t.Helper()
	return ends(t, statusUsage, env, args...)
}

func ends(t *testing.T, status int, env []string, args ...string) string {
	t.Helper()
	p := start(t, env, args...)
	if code := p.end(); code != status {
		t.Errorf("%v: exit status %d, want %d", args, code, status)
	}
	if out := p.out.String(); out != "" {
		t.Errorf("%v: wrote to stdout: %s", args, out)
	}
	return p.err.String()
}

// site is a running `berth serve`.
type site struct {
	*process
	url string
}

// serve starts `berth serve` on a free port over a data folder.
func serve(t *testing.T, data string, args ...string) site {
	t.Helper()
	return serveWith(t, nil, append([]string{"--listen", "127.0.0.1:0", "--data", data}, args...)...)
}

func serveWith(t *testing.T, env []string, args ...string) site {
	t.Helper()
	p := start(t, env, append([]string{"serve"}, args...)...)
	return site{p, p.await(p.err, `msg="Berth is ready" url=(\S+)`)}
}

// newHost starts a simulated host with the default world inside the test.
func newHost(t *testing.T) *sim.Host {
	t.Helper()
	dc, err := sim.New(sim.Options{RefusalDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	h, err := dc.Listen("", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// browser is a client with cookies that follows no redirects.
type browser struct {
	t    *testing.T
	base string
	http *http.Client
}

func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, base: base, http: &http.Client{
		Jar: jar, Timeout: patience, Transport: &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// at is the same browser, with its cookies, at another address of the same machine.
func (b *browser) at(base string) *browser {
	moved := *b
	moved.base = base
	return &moved
}

func (b *browser) request(method, path string, body any) *http.Request {
	b.t.Helper()
	var text io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		text = bytes.NewReader(encoded)
	}
	req, err := http.NewRequest(method, b.base+path, text)
	if err != nil {
		b.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func (b *browser) do(method, path string, body any) (*http.Response, string) {
	b.t.Helper()
	return b.send(b.request(method, path, body))
}

func (b *browser) send(req *http.Request) (*http.Response, string) {
	b.t.Helper()
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(text)
}

// credentials are a sign-in at the host with an address; the certificate is confirmed if its fingerprint is given.
func credentials(t *testing.T, address, fingerprint, user string) map[string]any {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]any{"host": host, "port": n, "username": user, "password": sim.DefaultPassword}
	if fingerprint != "" {
		in["fingerprint"] = fingerprint
	}
	return in
}

func (b *browser) signIn(in map[string]any) *http.Response {
	b.t.Helper()
	resp, body := b.do("POST", "/api/auth/login", in)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"success":true`) {
		b.t.Fatalf("sign-in: %d %s", resp.StatusCode, body)
	}
	return resp
}

func (b *browser) signedIn() bool {
	b.t.Helper()
	resp, _ := b.do("GET", "/api/auth/session", nil)
	return resp.StatusCode == http.StatusOK
}

// files are the regular files below a folder, by path, with their content.
func files(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		found[path] = string(text)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}
