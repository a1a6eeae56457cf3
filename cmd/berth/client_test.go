package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// user is somebody at a command line: a home, and what is in the environment.
type user struct {
	t    *testing.T
	home string
	env  []string
}

func newUser(t *testing.T, env ...string) user { return user{t, t.TempDir(), env} }

// secret is the text of an access token.
var secret = regexp.MustCompile(`berth_[A-Za-z0-9_-]{43}`)

// said is what a command wrote, and how it ended.
type said struct {
	status   int
	out, err string
}

// run runs the program with the given lines as standard input.
func (u user) run(stdin string, args ...string) said {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.home}, u.env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	_ = cmd.Run() // the exit status says it all
	s := said{cmd.ProcessState.ExitCode(), out.String(), errors.String()}
	if held := s.out + s.err; strings.Contains(held, sim.DefaultPassword) || secret.MatchString(held) || strings.Contains(held, "panic") {
		u.t.Errorf("%v: a secret or a panic is in what it wrote: %s", args, held)
	}
	return s
}

// must runs what has to end well.
func (u user) must(stdin string, args ...string) said {
	u.t.Helper()
	s := u.run(stdin, args...)
	if s.status != statusOK {
		u.t.Fatalf("%v: exit status %d\n%s%s", args, s.status, s.out, s.err)
	}
	return s
}

// fails runs what has to end with a status, and to say something.
func (u user) fails(status int, what, stdin string, args ...string) said {
	u.t.Helper()
	s := u.run(stdin, args...)
	if s.status != status || !strings.Contains(s.err, what) {
		u.t.Errorf("%v: exit status %d, want %d and a word about %q\n%s%s", args, s.status, status, what, s.out, s.err)
	}
	return s
}

func (u user) file() string { return filepath.Join(u.home, ".config", "berth", "account.json") }

// signIn signs in at a host of a demo, whose certificate is known.
func (u user) signIn(d demo, name, host string) {
	u.t.Helper()
	u.must(host+"\n"+name+"\n"+sim.DefaultPassword+"\n", "login", d.url)
}

// makeToken makes an access token in a browser, and a node that it can be used with, and returns its text and its id.
func (d demo) makeToken(name, host, scope string) (text, id string) {
	d.t.Helper()
	b := newBrowser(d.t, d.url)
	b.signIn(credentials(d.t, host, "", name))
	d.storeCredential(b)
	_, body := b.do("POST", "/api/tokens", map[string]any{"name": "of a test " + scope, "scope": scope, "expiresAt": time.Now().AddDate(0, 0, 7).UTC().Format(time.DateOnly)})
	var made struct{ Token, ID string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || made.Token == "" {
		d.t.Fatalf("make a token: %s", body)
	}
	return made.Token, made.ID
}

// storeCredential adds a node that goes by an API token of Berth's making, beside the one that goes by the session.
func (d demo) storeCredential(b *browser) {
	d.t.Helper()
	_, body := b.do("GET", "/api/nodes", nil)
	var nodes struct {
		Items      []any
		LoginHosts []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(body), &nodes); err != nil || len(nodes.LoginHosts) == 0 {
		d.t.Fatalf("nodes: %s", body)
	}
	if len(nodes.Items) > 1 {
		return
	}
	resp, body := b.do("POST", "/api/nodes", map[string]any{"name": "scripts", "credential": "made", "loginHost": nodes.LoginHosts[0].ID})
	if resp.StatusCode != http.StatusOK {
		d.t.Fatalf("add a node: %d %s", resp.StatusCode, body)
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoginAndList(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	u := newUser(t)
	u.fails(statusNotSignedIn, "berth login", "", "ls")
	u.fails(statusNotSignedIn, "Invalid credentials", d.hosts[0]+"\nalice@pve\nnot-her-password\n", "login", d.url)
	u.fails(statusNotSignedIn, "berth login", "", "ls")

	s := u.must(d.hosts[0]+"\nalice@pve\n"+sim.DefaultPassword+"\n", "login", d.url)
	if s.out != "Signed in to "+d.url+" as alice@pve.\n" || !strings.Contains(s.err, "Proxmox host") || !strings.Contains(s.err, "Password of alice@pve") {
		t.Errorf("said %q and asked %q", s.out, s.err)
	}
	if info, err := os.Stat(u.file()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kept: %v, %v", info, err)
	}
	if text, err := os.ReadFile(u.file()); err != nil || strings.Contains(string(text), sim.DefaultPassword) {
		t.Errorf("kept: %s, %v", text, err)
	}

	asked := u.must("", "ls").out
	if !regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+\b`).MatchString(asked) {
		t.Errorf("no address in the first list: %s", asked)
	}
	table := strings.Split(strings.TrimSpace(asked), "\n")
	if len(table) != 3 || !strings.HasPrefix(table[0], "VMID  NAME") {
		t.Fatalf("the table: %q", table)
	}
	status := strings.Index(table[0], "STATUS")
	for _, row := range table[1:] {
		if !regexp.MustCompile(`^(running|stopped|template) `).MatchString(row[status:]) || row[status-1] != ' ' {
			t.Errorf("not in line with %q: %q", table[0], row)
		}
	}
	var list struct {
		Items []struct {
			VMID   int
			Name   string
			Status string
			NodeID string
		}
		Nodes []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(u.must("", "ls", "--json").out), &list); err != nil || len(list.Items) != 2 || len(list.Nodes) != 1 {
		t.Fatalf("as JSON: %+v, %v", list, err)
	}
	first := list.Items[0]
	if got := u.must("", "ls", "-q", first.Name).out; !strings.Contains(got, first.Name) || strings.Contains(got, list.Items[1].Name) {
		t.Errorf("searched: %s", got)
	}
	if got := u.must("", "ls", "--node", list.Nodes[0].Name, "--json").out; strings.Count(got, `"vmid"`) != 2 {
		t.Errorf("of the node: %s", got)
	}
	u.fails(statusUsage, "there are: "+list.Nodes[0].Name, "", "ls", "--node", "elsewhere")
	u.fails(statusUsage, "none of running, stopped, other", "", "ls", "--status", "asleep")
	u.fails(statusUsage, "unknown flag", "", "ls", "--nonsense")
	u.fails(statusUnreachable, "no answer", "", "ls", "--url", "http://127.0.0.1:1", "--token-file", writeFile(t, "berth_"+strings.Repeat("A", 43)))
	// What is kept for one Berth is sent to no other.
	u.fails(statusNotSignedIn, "not signed in to http://127.0.0.1:1", "", "ls", "--url", "http://127.0.0.1:1")

	// The session ends on the server too.
	kept, err := os.ReadFile(u.file())
	if err != nil {
		t.Fatal(err)
	}
	u.must("", "logout")
	if _, err := os.Stat(u.file()); !os.IsNotExist(err) {
		t.Errorf("still kept: %v", err)
	}
	if err := os.WriteFile(u.file(), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	u.fails(statusNotSignedIn, "Authentication required", "", "ls")
	u.must("", "logout") // of a session that has ended
	if s := u.must("", "logout"); s.out != "You are not signed in.\n" {
		t.Errorf("nobody signs out: %q", s.out)
	}
	d.stop()
}

func TestLoginWithSecondFactor(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	u := newUser(t)
	first := d.hosts[0] + "\n" + sim.DefaultPassword + "\ntotp\n"
	u.fails(statusUsage, "must be one of totp, recovery", d.hosts[0]+"\n"+sim.DefaultPassword+"\nsms\n", "login", d.url, "--user", "bob@pve")
	s := u.must(first+sim.TOTP(sim.DefaultTOTPSecret, time.Now())+"\n", "login", d.url, "--user", "bob@pve")
	if !strings.Contains(s.out, "as bob@pve") {
		t.Errorf("said %q", s.out)
	}
	u.must("", "ls")
	u.fails(statusFailed, "standard input has ended", d.hosts[0]+"\n", "login", d.url, "--user", "bob@pve")
	d.stop()
}

// A Proxmox host that nobody knows, a Berth that nobody has claimed, and one whose certificate nobody vouches for: each is
// asked about before anything secret is sent.
func TestLoginAsksBeforeItTrusts(t *testing.T) {
	t.Parallel()
	host := newHost(t)
	s := serve(t, t.TempDir(), "--tls", "self", "--hosts", "berth.example.org")
	fingerprint := s.await(s.err, `fingerprint=([0-9A-F:]{95})`)
	code := s.await(s.out, `\n  ([a-z0-9-]{19})\n`)
	u := newUser(t)
	asked := u.fails(statusUnreachable, "nobody vouches", "n\n", "login", s.url)
	if !strings.Contains(asked.err, fingerprint) {
		t.Errorf("does not show %s: %s", fingerprint, asked.err)
	}
	u.fails(statusUnreachable, "another certificate", "", "login", s.url, "--fingerprint", strings.Repeat("AB:", 31)+"AB")
	u.fails(statusUsage, "--fingerprint", "", "login", s.url, "--fingerprint", "AB:CD")

	account := host.Address() + "\nroot@pam\n" + sim.DefaultPassword + "\n"
	s2 := u.fails(statusRefused, "", "y\n"+account+code+"\nn\n", "login", s.url)
	if !strings.Contains(s2.err, host.Fingerprint()) || !strings.Contains(s2.err, "Claim code") {
		t.Errorf("asked %s", s2.err)
	}
	if len(host.Requests()) > 0 {
		t.Errorf("the host got %v", host.Requests())
	}
	u.must("y\n"+account+code+"\ny\n", "login", s.url)
	if got := u.must("", "ls").out; strings.Count(got, "\n") < 5 {
		t.Errorf("the list: %s", got)
	}
	// The confirmed certificate is kept, and with it no other is accepted.
	text, err := os.ReadFile(u.file())
	if err != nil || !strings.Contains(string(text), fingerprint) {
		t.Fatalf("kept %s, %v", text, err)
	}
	other := strings.Replace(string(text), fingerprint, strings.Repeat("AB:", 31)+"AB", 1)
	if err := os.WriteFile(u.file(), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	u.fails(statusUnreachable, "another certificate", "", "ls")
	// A script can't be led to accept the change.
	u.fails(statusUnreachable, "another certificate", "y\n"+account, "login", s.url)
	s.stop()
}

func TestAccessTokenOnTheCommandLine(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	token, id := d.makeToken("alice@pve", d.hosts[0], "read")
	in := writeFile(t, token+"\n")
	// By a file, by standard input, by the environment; then kept.
	plain := newUser(t)
	plain.must("", "ls", "--url", d.url, "--token-file", in)
	plain.must(token, "ls", "--url", d.url, "--token-file", "-")
	newUser(t, "BERTH_URL="+d.url, "BERTH_TOKEN="+token).must("", "ls", "--json")
	newUser(t, "BERTH_URL="+d.url, "BERTH_TOKEN_FILE="+in).must("", "ls", "--json")

	u := newUser(t)
	s := u.must("", "login", d.url, "--token-file", in)
	if !strings.Contains(s.out, `as alice@pve, with the access token "of a test read" (read, until `) {
		t.Errorf("said %q", s.out)
	}
	u.must("", "ls")
	if err := os.Chmod(u.file(), 0o644); err != nil {
		t.Fatal(err)
	}
	u.fails(statusFailed, "other users", "", "ls")
	if err := os.Chmod(u.file(), 0o600); err != nil {
		t.Fatal(err)
	}

	u.fails(statusUsage, "there is no access token in it", "", "ls", "--url", d.url, "--token-file", writeFile(t, "\n"))
	u.fails(statusUsage, "something else than an access token", "", "ls", "--url", d.url, "--token-file", writeFile(t, "two words\n"))
	u.fails(statusUsage, "no such file", "", "ls", "--url", d.url, "--token-file", "/nowhere/token")
	u.fails(statusNotSignedIn, "not an access token", "", "ls", "--url", d.url, "--token-file", writeFile(t, "nonsense\n"))
	wrong := newUser(t)
	wrong.fails(statusNotSignedIn, "no such access token", "", "login", d.url, "--token-file", writeFile(t, "berth_"+strings.Repeat("A", 43)))
	if _, err := os.Stat(wrong.file()); !os.IsNotExist(err) {
		t.Errorf("a wrong token is kept: %v", err)
	}

	b := newBrowser(t, d.url)
	b.signIn(credentials(t, d.hosts[0], "", "alice@pve"))
	b.do("DELETE", "/api/tokens/"+id, nil)
	u.fails(statusNotSignedIn, "revoked", "", "ls")
	if s := u.must("", "logout"); !strings.Contains(s.out, "Signed out") {
		t.Errorf("said %q", s.out)
	}
	d.stop()
}
