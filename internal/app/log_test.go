package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// TestMain runs the tests with a log at its most talkative, and fails if anything in it is a secret that any of them used: see
// secrets. Tests that look at a log of their own search it themselves.
func TestMain(m *testing.M) {
	everything := &lockedBuffer{}
	slog.SetDefault(slog.New(both{
		slog.NewTextHandler(os.Stderr, nil),
		slog.NewJSONHandler(everything, &slog.HandlerOptions{Level: slog.LevelDebug}),
	}))
	status := m.Run()
	found := used.in(everything.bytes())
	for _, line := range found {
		fmt.Fprintln(os.Stderr, line)
	}
	if len(found) > 0 && status == 0 {
		status = 1
	}
	os.Exit(status)
}

// both logs to two handlers.
type both struct{ told, kept slog.Handler }

func (b both) Enabled(context.Context, slog.Level) bool { return true }

func (b both) Handle(ctx context.Context, r slog.Record) error {
	if b.told.Enabled(ctx, r.Level) {
		if err := b.told.Handle(ctx, r.Clone()); err != nil {
			return err
		}
	}
	return b.kept.Handle(ctx, r)
}

func (b both) WithAttrs(a []slog.Attr) slog.Handler {
	return both{b.told.WithAttrs(a), b.kept.WithAttrs(a)}
}

func (b both) WithGroup(name string) slog.Handler {
	return both{b.told.WithGroup(name), b.kept.WithGroup(name)}
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.text.Bytes())
}

// used are the secrets of all tests: what a browser sent or was sent in a field or cookie that holds one, and claim codes.
var used secrets

// secrets is a set of texts that must be in no log.
type secrets struct {
	mu    sync.Mutex
	known map[string]string // what each is
}

// Shorter ones, such as the codes of second factors, are in logs by chance.
const shortestSecret = 8

var secretFields = regexp.MustCompile(`(?i)^(password|code|claim_?code|secret|token|challenge|token_?secret|state)$`)

// unmistakable are secrets by their form alone: tickets of Proxmox VE, Berth's access tokens, secrets of API tokens, CSRF tokens.
var unmistakable = regexp.MustCompile(`PVE:[^\s"]+::[A-Za-z0-9+/=]{16}|\bberth_[A-Za-z0-9_-]{43}|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9A-F]{8}:[A-Za-z0-9+/]{27}`)

func (s *secrets) add(what, text string) {
	if len(text) < shortestSecret {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]string{}
	}
	s.known[text] = what
}

// addBody adds what a request or an answer holds, form or JSON.
func (s *secrets) addBody(body string) {
	var decoded any
	if json.Unmarshal([]byte(body), &decoded) == nil {
		s.addJSON("", decoded)
		return
	}
	if form, err := url.ParseQuery(body); err == nil {
		for name, values := range form {
			if secretFields.MatchString(name) {
				for _, v := range values {
					s.add(name, v)
				}
			}
		}
	}
}

func (s *secrets) addJSON(name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, one := range v {
			s.addJSON(name, one)
		}
	case []any:
		for _, one := range v {
			s.addJSON(name, one)
		}
	case string:
		// The codes of problems are no secrets.
		if secretFields.MatchString(name) && !regexp.MustCompile(`^[a-z_]+$`).MatchString(v) {
			s.add(name, v)
		}
	}
}

func (s *secrets) addCookies(cookies []*http.Cookie) {
	for _, c := range cookies {
		s.add("cookie "+c.Name, c.Value)
	}
}

// in tells which secrets a log holds, each once.
func (s *secrets) in(log []byte) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	byStart := map[string][]string{}
	for text := range s.known {
		byStart[text[:shortestSecret]] = append(byStart[text[:shortestSecret]], text)
	}
	var found []string
	told := map[string]bool{}
	tell := func(what, text string, at int) {
		if told[text] {
			return
		}
		told[text] = true
		line := log[bytes.LastIndexByte(log[:at], '\n')+1:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
		}
		found = append(found, fmt.Sprintf("the log holds a secret (%s): %s", what, line))
	}
	for i := 0; i+shortestSecret <= len(log); i++ {
		for _, text := range byStart[string(log[i:i+shortestSecret])] {
			if bytes.HasPrefix(log[i:], []byte(text)) {
				tell(s.known[text], text, i)
			}
		}
	}
	for _, at := range unmistakable.FindAllIndex(log, -1) {
		tell("by its form", string(log[at[0]:at[1]]), at[0])
	}
	return found
}

// TestSecretsAreFound: the search finds what it is for.
func TestSecretsAreFound(t *testing.T) {
	var s secrets
	s.addBody(`{"username":"alice@pve","password":"correct horse","nested":[{"token":"0123456789"}],"code":"invalid_input"}`)
	s.addBody("user=alice&claimCode=abcd-efgh-ijkl")
	s.addCookies([]*http.Cookie{{Name: "lxc-session", Value: "cookie-value"}})
	log := strings.Join([]string{
		`{"msg":"a","cause":"tried correct horse"}`, `{"msg":"b0123456789b"}`, `{"msg":"abcd-efgh-ijkl"}`, `{"c":"cookie-value"}`,
		`{"t":"PVE:root@pam:66A0B0C0::abcdefghijklmnopqrstuvwxyz"}`, `{"t":"berth_aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeee"}`,
		`{"t":"root@pam!berth=01234567-89ab-cdef-0123-456789abcdef"}`, `{"t":"66A0B0C0:abcdefghijklmnopqrstuvwxyz0123456789"}`,
		`{"fine":"alice@pve invalid_input 66A0B0C0"}`,
	}, "\n")
	found := s.in([]byte(log))
	if len(found) != 8 {
		t.Errorf("found %d of 8:\n%s", len(found), strings.Join(found, "\n"))
	}
	if again := s.in([]byte(`{"fine":"alice@pve invalid_input"}`)); len(again) != 0 {
		t.Errorf("found %q", again)
	}
}
