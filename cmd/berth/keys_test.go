package main

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/seal"
	"berth/internal/session"
	"berth/internal/store"
)

// wantOneKey lists the keys and returns the only one.
func wantOneKey(t *testing.T, folder string) string {
	t.Helper()
	p := start(t, nil, "keys", "list", "--data", folder)
	m := regexp.MustCompile(`^KEY +STATE\n([0-9a-f]{8}) +in use\n$`).FindStringSubmatch(p.finished())
	if m == nil {
		t.Fatalf("keys: %s", p.out)
	}
	var listed []listedKey
	text := start(t, nil, "keys", "list", "--json", "--data", folder).finished()
	if err := json.Unmarshal([]byte(text), &listed); err != nil || !slices.Equal(listed, []listedKey{{m[1], "in use"}}) {
		t.Errorf("keys as JSON: %s (%v), want %s in use", text, err, m[1])
	}
	info, err := os.Stat(filepath.Join(folder, "berth.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v, want mode 0600", info, err)
	}
	return m[1]
}

// finished waits for a command that must end well, and returns what it wrote.
func (p *process) finished() string {
	p.t.Helper()
	if code := p.end(); code != 0 {
		p.t.Fatalf("exit status %d\nstderr: %s", code, p.err)
	}
	return p.out.String()
}

func rotate(t *testing.T, folder string) string {
	t.Helper()
	return start(t, nil, "keys", "rotate", "--data", folder).finished()
}

// containersVisible tells whether the browser's session can call Proxmox with the ticket that is sealed in it.
func (b *browser) containersVisible() bool {
	b.t.Helper()
	resp, body := b.do("GET", "/api/containers", nil)
	return resp.StatusCode == http.StatusOK && strings.Contains(body, `"vmid":101`)
}

func TestRotateKeyWhileServing(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data") // which Berth makes, for itself alone
	host := newHost(t)
	s := serve(t, folder)
	in := credentials(t, host.Address(), host.Fingerprint(), "alice@pve")
	first := newBrowser(t, s.url)
	first.signIn(in)
	before := wantOneKey(t, folder)

	var wg sync.WaitGroup
	var mu sync.Mutex
	browsers := []*browser{first}
	done := make(chan struct{})
	running := func() bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	}
	wg.Go(func() {
		for running() {
			if !first.containersVisible() {
				t.Error("a session that was there before fails")
			}
		}
	})
	wg.Go(func() {
		for n := 0; n == 0 || running() && n < 20; n++ {
			b := newBrowser(t, s.url)
			b.signIn(in)
			mu.Lock()
			browsers = append(browsers, b)
			mu.Unlock()
		}
	})
	for range 4 {
		if said := rotate(t, folder); !regexp.MustCompile(`^Key [0-9a-f]{8} is in use\. \d+ sealed anew; retired: [0-9a-f]{8}\.\n`).MatchString(said) {
			t.Errorf("said %q", said)
		}
	}
	close(done)
	wg.Wait()
	if after := wantOneKey(t, folder); after == before {
		t.Error("the key is the one from before")
	}
	for i, b := range browsers {
		if !b.containersVisible() {
			t.Errorf("session %d of %d fails", i, len(browsers))
		}
	}
	s.stop()
	if strings.Contains(s.err.String(), "level=ERROR") || strings.Contains(s.err.String(), "level=WARN") {
		t.Errorf("the log complains: %s", s.err)
	}
	s = serve(t, folder)
	for i, b := range browsers {
		if !b.at(s.url).containersVisible() {
			t.Errorf("after a restart session %d of %d fails", i, len(browsers))
		}
	}
	s.stop()
}

// sealedIn opens everything that is sealed in an installation, and tells which keys it was sealed with.
func sealedIn(t *testing.T, folder string) (opened map[seal.Place]string, keys map[string]int) {
	t.Helper()
	db, err := store.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sealer, err := seal.Load(filepath.Join(folder, "berth.key"))
	if err != nil {
		t.Fatal(err)
	}
	opened, keys = map[seal.Place]string{}, map[string]int{}
	err = db.Sealed(t.Context(), func(at seal.Place, sealed []byte) error {
		secret, err := sealer.Open(sealed, at)
		opened[at] = string(secret)
		keys[hex.EncodeToString(sealed[1:5])]++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return opened, keys
}

// fillSessions adds sessions to an installation that nobody serves.
func fillSessions(t *testing.T, folder string, n int) {
	t.Helper()
	db, err := store.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	hosts, err := db.LoginHosts(t.Context())
	if err != nil || len(hosts) == 0 {
		t.Fatalf("%d hosts, %v", len(hosts), err)
	}
	sealer, err := seal.Load(filepath.Join(folder, "berth.key"))
	if err != nil {
		t.Fatal(err)
	}
	sessions := session.NewRegistry(session.Options{Store: db, Sealer: sealer, Now: time.Now})
	for i := range n {
		user := fmt.Sprintf("user%d@pve", i)
		_, _, err := sessions.Start(t.Context(), session.Grant{
			Identity: session.Identity{Datacenter: hosts[0].Datacenter, UserID: user}, LoginHost: hosts[0].ID, Realm: "pve",
			Ticket: pve.Ticket{UserID: user, Value: "PVE:" + user, CSRF: "csrf"},
			Client: session.Client{Address: netip.MustParseAddr("127.0.0.1")},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for path := range files(t, to) {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Otherwise a copy has its sessions ended.
	db, err := sql.Open("sqlite", filepath.Join(to, store.FileName))
	if err == nil {
		_, err = db.ExecContext(t.Context(), "UPDATE installation SET epoch_file = ''")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// A rotation that is killed leaves an installation that works, served or not, and that the next run finishes.
func TestKilledRotationIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	host := newHost(t)
	s := serve(t, folder)
	b := newBrowser(t, s.url)
	b.signIn(credentials(t, host.Address(), host.Fingerprint(), "alice@pve"))
	s.stop()
	fillSessions(t, folder, 1500)
	want, _ := sealedIn(t, folder)
	original := wantOneKey(t, folder)

	began := time.Now()
	rotate(t, copyFolder(t, folder))
	whole := time.Since(began)

	random := rand.New(rand.NewPCG(3, 9))
	const instants = 20
	halfway := 0
	for i := range instants {
		folder := copyFolder(t, folder)
		served := i%2 == 0
		if served {
			s = serve(t, folder)
		}
		p := start(t, nil, "keys", "rotate", "--data", folder)
		if i > 0 {
			// Anywhere between the start and the end.
			time.Sleep(time.Duration((float64(i-1) + random.Float64()) / (instants - 1) * float64(whole)))
		} else {
			// Just when the file has changed for the first time.
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
				if keys, err := seal.Keys(filepath.Join(folder, "berth.key")); err != nil || len(keys) > 1 {
					break
				}
			}
		}
		_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
		p.end()

		if keys, err := seal.Keys(filepath.Join(folder, "berth.key")); err != nil {
			t.Fatalf("instant %d: %v", i, err)
		} else if len(keys) > 1 {
			halfway++
		}
		if opened, keys := sealedIn(t, folder); !maps.Equal(opened, want) {
			t.Errorf("instant %d: sealed with %v, not everything opens as before", i, keys)
		}
		if !served {
			s = serve(t, folder)
		}
		if !b.at(s.url).containersVisible() {
			t.Errorf("instant %d: a session does not work", i)
		}
		said := rotate(t, folder)
		if !b.at(s.url).containersVisible() {
			t.Errorf("instant %d: after the next rotation a session does not work", i)
		}
		s.stop()
		key := wantOneKey(t, folder)
		opened, keys := sealedIn(t, folder)
		if !maps.Equal(opened, want) || len(keys) != 1 || keys[key] != len(want) || key == original {
			t.Errorf("instant %d: after the next rotation (%s) the key is %s and sealed is with %v", i, said, key, keys)
		}
		if left, err := filepath.Glob(filepath.Join(folder, ".*.key-*")); err != nil || len(left) > 0 {
			t.Errorf("instant %d: the next rotation leaves %v, %v", i, left, err)
		}
	}
	if halfway == 0 {
		t.Error("no rotation was ended halfway, so this test showed nothing")
	}
}

func TestRotateRefuses(t *testing.T) {
	t.Parallel()
	folder, other := t.TempDir(), t.TempDir()
	serve(t, folder).stop()
	serve(t, other).stop()
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	before, beforeOther := files(t, folder), files(t, other)
	for name, test := range map[string]struct{ args, want []string }{
		"no installation":              {[]string{"--data", nowhere}, []string{nowhere, "no installation"}},
		"the key of another":           {[]string{"--data", folder, "--key-file", filepath.Join(other, "berth.key")}, []string{filepath.Join(other, "berth.key"), "is not the one"}},
		"no key file":                  {[]string{"--data", folder, "--key-file", filepath.Join(nowhere, "berth.key")}, []string{nowhere, "is missing"}},
		"a key file that is a folder":  {[]string{"--data", folder, "--key-file", other}, []string{other, "not a regular file"}},
		"a database instead of a key":  {[]string{"--data", folder, "--key-file", filepath.Join(other, "berth.db")}, []string{"berth.db", "no usable key"}},
		"an unwritable place for keys": {[]string{"--data", folder, "--key-file", "/dev/null/berth.key"}, []string{"/dev/null"}},
	} {
		if said := refused(t, nil, append([]string{"keys", "rotate"}, test.args...)...); !oneSentence(said, test.want...) {
			t.Errorf("%s: said %q, want one sentence with %q", name, said, test.want)
		}
	}
	if !maps.Equal(before, files(t, folder)) || !maps.Equal(beforeOther, files(t, other)) {
		t.Error("a refused rotation changed files")
	}
	if _, err := os.Stat(nowhere); !os.IsNotExist(err) {
		t.Errorf("a refused rotation made a folder: %v", err)
	}
}
