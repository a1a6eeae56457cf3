package main

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "version")
	if code := p.end(); code != 0 || p.out.String() != "berth "+testVersion+"\n" || p.err.String() != "" {
		t.Errorf("status %d, stdout %q, stderr %q", code, p.out, p.err)
	}
}

// oneSentence tells whether a text is a single line that holds all the parts.
func oneSentence(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return strings.HasPrefix(text, "berth: ") && strings.Count(text, "\n") == 1
}

func TestWhatCannotBeUsedIsOneSentence(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(folder, "nowhere", "berth.key")
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "berth.db"), []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		want []string
	}{
		"a busy port":                {[]string{"--listen", taken.Addr().String(), "--data", t.TempDir()}, []string{taken.Addr().String(), "address already in use"}},
		"a folder below a file":      {[]string{"--listen", "127.0.0.1:0", "--data", file + "/berth"}, []string{file + "/berth", "not a directory"}},
		"a file for a folder":        {[]string{"--listen", "127.0.0.1:0", "--data", file}, []string{file, "not a directory"}},
		"a key file in no folder":    {[]string{"--listen", "127.0.0.1:0", "--data", t.TempDir(), "--key-file", key}, []string{key, "no such file or directory"}},
		"a database that is none":    {[]string{"--listen", "127.0.0.1:0", "--data", broken}, []string{broken, "not a database"}},
		"a host name of no machine":  {[]string{"--listen", "nowhere.invalid:0", "--data", t.TempDir()}, []string{"nowhere.invalid"}},
		"an address of no interface": {[]string{"--listen", "192.0.2.1:0", "--data", t.TempDir()}, []string{"192.0.2.1", "cannot assign requested address"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if said := refused(t, nil, append([]string{"serve"}, test.args...)...); !oneSentence(said, test.want...) {
				t.Errorf("said %q, want one sentence with %q", said, test.want)
			}
		})
	}
	t.Run("a busy port of a simulated host", func(t *testing.T) {
		if said := refused(t, nil, "sim", "--listen", taken.Addr().String()); !oneSentence(said, taken.Addr().String(), "address already in use") {
			t.Errorf("said %q", said)
		}
	})
}

// keyed is a data folder with a session in it, and the browser that has the session.
func keyed(t *testing.T) (folder string, b *browser) {
	t.Helper()
	folder = t.TempDir()
	host := newHost(t)
	s := serve(t, folder)
	b = newBrowser(t, s.url)
	b.signIn(credentials(t, host.Address(), host.Fingerprint(), "alice@pve"))
	s.stop()
	return folder, b
}

func TestKeyThatIsNotTheRightOneChangesNothing(t *testing.T) {
	t.Parallel()
	folder, b := keyed(t)
	key := filepath.Join(folder, "berth.key")
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	serve(t, other).stop()
	wrong, err := os.ReadFile(filepath.Join(other, "berth.key"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(content []byte, mode os.FileMode) {
		t.Helper()
		if err := os.Remove(key); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if content == nil {
			return
		}
		if err := os.WriteFile(key, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		content []byte
		mode    os.FileMode
		want    string
	}{
		{"missing", nil, 0, "is missing"},
		{"of another installation", wrong, 0o600, "is not the one"},
		{"garbage", []byte("{}"), 0o600, "no usable key"},
		{"empty", []byte{}, 0o600, "no usable key"},
		{"readable by others", right, 0o644, "chmod 600"},
	} {
		put(test.content, test.mode)
		before := files(t, folder)
		said := refused(t, nil, "serve", "--listen", "127.0.0.1:0", "--data", folder)
		if !oneSentence(said, key, test.want) {
			t.Errorf("%s: said %q, want one sentence that names the file and says %q", test.name, said, test.want)
		}
		if !maps.Equal(before, files(t, folder)) {
			t.Errorf("%s: the data folder was changed", test.name)
		}
	}
	put(right, 0o600)
	s := serve(t, folder)
	if !b.at(s.url).signedIn() {
		t.Error("with the right key put back, the session is gone")
	}
	s.stop()
}

func TestSessionSurvivesRestartAndKill(t *testing.T) {
	t.Parallel()
	folder, b := keyed(t)
	s := serve(t, folder)
	if !b.at(s.url).signedIn() {
		t.Fatal("the session did not survive a restart")
	}
	s.signal(syscall.SIGKILL)
	s.end()
	s = serve(t, folder)
	if !b.at(s.url).signedIn() {
		t.Error("the session did not survive a kill")
	}
	s.stop()
}

// A signal lets what runs come to its end: here a sign-in that its host takes a moment for.
func TestSignalLetsRunningRequestsFinish(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			host := newHost(t)
			s := serve(t, folder)
			b := newBrowser(t, s.url)
			host.SetFault("POST", "/access/ticket", sim.Fault{Latency: 5 * time.Second})
			answered := b.inFlight(credentials(t, host.Address(), host.Fingerprint(), "alice@pve"))
			s.signal(sig)
			select {
			case a := <-answered:
				t.Fatalf("answered before the signal was sent: %+v", a)
			default:
			}
			if a := <-answered; a.err != nil || a.status != http.StatusOK {
				t.Errorf("the running sign-in: %+v", a)
			}
			if code := s.end(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			s = serve(t, folder)
			if !b.at(s.url).signedIn() {
				t.Error("the session that began last is gone")
			}
			s.stop()
		})
	}
}

type answer struct {
	status int
	err    error
}

// inFlight sends a sign-in, and returns once its handler runs: Go's server asks for the body when the handler reads it.
func (b *browser) inFlight(in map[string]any) <-chan answer {
	b.t.Helper()
	b.http.Transport = &http.Transport{ExpectContinueTimeout: patience}
	running := make(chan struct{})
	req := b.request("POST", "/api/auth/login", in)
	req.Header.Set("Expect", "100-continue")
	req = req.WithContext(httptrace.WithClientTrace(b.t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(running) }}))
	answered := make(chan answer, 1)
	go func() {
		resp, err := b.http.Do(req)
		if err != nil {
			answered <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		answered <- answer{resp.StatusCode, err}
	}()
	select {
	case <-running:
	case a := <-answered:
		b.t.Fatalf("the sign-in was answered before its body was read: %+v", a)
	case <-time.After(patience):
		b.t.Fatal("the sign-in did not reach its handler")
	}
	return answered
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	host := newHost(t)
	s := serve(t, t.TempDir())
	host.SetFault("POST", "/access/ticket", sim.Fault{Hang: true})
	newBrowser(t, s.url).inFlight(credentials(t, host.Address(), host.Fingerprint(), "alice@pve"))
	s.signal(syscall.SIGINT)
	began := time.Now()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			_ = s.cmd.Process.Signal(syscall.SIGINT) // it may have ended
			continue
		case <-s.ended:
		}
		break
	}
	// Without the second signal it would take ten seconds.
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDrainHasAnEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	host := newHost(t)
	s := serve(t, t.TempDir())
	host.SetFault("POST", "/access/ticket", sim.Fault{Hang: true})
	newBrowser(t, s.url).inFlight(credentials(t, host.Address(), host.Fingerprint(), "alice@pve"))
	began := time.Now()
	s.stop()
	if took := time.Since(began); took < 9*time.Second || took > time.Minute {
		t.Errorf("took %v, want about ten seconds", took)
	}
}

// Beyond loopback without TLS the log says it at the start, and every page to everybody. On loopback a page says it to
// those whose passwords travel all the same: here somebody behind a proxy that Berth was told nothing of.
func TestInsecureIsSaid(t *testing.T) {
	t.Parallel()
	const notice, logged = "Passwords travel in the clear", "passwords travel in the clear"
	folder, b := keyed(t)
	for listen, insecure := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		s := serveWith(t, nil, "--listen", listen, "--data", folder)
		_, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		visitor, user := newBrowser(t, "http://127.0.0.1:"+port), b.at("http://127.0.0.1:"+port)
		for _, page := range []struct {
			by   *browser
			path string
		}{{visitor, "/login"}, {user, "/"}, {user, "/no-such-page"}} {
			for _, from := range []string{"", "192.0.2.7"} {
				req := page.by.request("GET", page.path, nil)
				if from != "" {
					req.Header.Set("X-Forwarded-For", from)
				}
				resp, body := page.by.send(req)
				want := insecure || from != ""
				if !strings.Contains(resp.Header.Get("Content-Type"), "text/html") || strings.Contains(body, notice) != want {
					t.Errorf("on %s, %s from %q: %d, says that passwords travel in the clear: %v", listen, page.path, from, resp.StatusCode, !want)
				}
			}
		}
		s.stop()
		if strings.Contains(s.err.String(), logged) != insecure {
			t.Errorf("on %s the log says that passwords travel in the clear: %v, want %v\n%s", listen, !insecure, insecure, s.err)
		}
	}
}

func TestLogAsJSON(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"BERTH_LOG_FORMAT=json", "BERTH_LOG_LEVEL=debug"}, "serve", "--listen", "127.0.0.1:0", "--data", t.TempDir())
	p.await(p.err, `"msg":"Berth is ready","url":"(http://[^"]+)"`)
	p.stop()
	quiet := start(t, nil, "serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--log-level", "error")
	quiet.signal(syscall.SIGTERM)
	quiet.end()
	if said := quiet.err.String(); said != "" {
		t.Errorf("at level error the log says %q", said)
	}
}

// The data folder defaults to the XDG state folder, and is the owner's alone.
func TestDefaultDataFolder(t *testing.T) {
	t.Parallel()
	home, state := t.TempDir(), t.TempDir()
	for want, env := range map[string][]string{
		filepath.Join(state, "berth"):                   {"XDG_STATE_HOME=" + state, "HOME=" + home},
		filepath.Join(home, ".local", "state", "berth"): {"XDG_STATE_HOME=relative/is/ignored", "HOME=" + home},
	} {
		s := serveWith(t, append(env, "BERTH_LISTEN=127.0.0.1:0"))
		s.stop()
		info, err := os.Stat(want)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v, want a folder of mode 0700", want, info, err)
		}
		if names := slices.Sorted(maps.Keys(files(t, want))); len(names) == 0 {
			t.Errorf("%s is empty", want)
		}
	}
}
