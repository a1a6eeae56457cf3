package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// listedHosts is what berth hosts list --json prints.
func listedHosts(t *testing.T, folder string) []listedHost {
	t.Helper()
	p := start(t, nil, "hosts", "list", "--json", "--data", folder)
	var list []listedHost
	if err := json.Unmarshal([]byte(p.finished()), &list); err != nil {
		t.Fatalf("%s: %v", p.out, err)
	}
	return list
}

// The operator adds, re-pins and removes login hosts while Berth runs, which notices by itself, and while it does not.
func TestHostsOfTheOperator(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	first, second, third := newHost(t), newHost(t), newHost(t)
	s := serve(t, folder)
	b := newBrowser(t, s.url)
	b.signIn(credentials(t, first.Address(), first.Fingerprint(), "root@pam"))
	elsewhere := newBrowser(t, s.url)
	refused403 := func(address string) {
		t.Helper()
		if resp, body := elsewhere.do("POST", "/api/auth/login", credentials(t, address, "", "root@pam")); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "host_not_allowed") {
			t.Errorf("sign-in at %s: %d %s", address, resp.StatusCode, body)
		}
	}
	refused403(second.Address())

	// Not without the right fingerprint, and not by a question that nobody answers.
	if said := failedCommand(t, "hosts", "add", second.Address(), "--data", folder); !strings.Contains(said, "not confirmed, so nothing was changed") {
		t.Errorf("without an answer: %s", said)
	}
	if said := failedCommand(t, "hosts", "add", second.Address(), "--fingerprint", first.Fingerprint(), "--data", folder); !strings.Contains(said, "presents another certificate") {
		t.Errorf("with another fingerprint: %s", said)
	}
	if list := listedHosts(t, folder); len(list) != 1 || !list[0].Owner || list[0].Address != first.Address() {
		t.Errorf("login hosts %+v", list)
	}
	refused403(second.Address())

	start(t, nil, "hosts", "add", second.Address(), "--fingerprint", second.Fingerprint(), "--data", folder).finished()
	elsewhere.signIn(credentials(t, second.Address(), "", "root@pam"))
	list := listedHosts(t, folder)
	if len(list) != 2 || list[0].Datacenter == list[1].Datacenter || list[1].Owner || !list[1].Pinned {
		t.Errorf("login hosts %+v", list)
	}

	// With Berth stopped: another door of the first installation, and a changed certificate.
	s.stop()
	start(t, nil, "hosts", "add", third.Address(), "--joins", first.Address(), "--fingerprint", third.Fingerprint(), "--data", folder).finished()
	if err := second.ChangeCertificate(false); err != nil {
		t.Fatal(err)
	}
	if said := failedCommand(t, "hosts", "repin", second.Address(), "--fingerprint", list[1].Fingerprint, "--data", folder); !strings.Contains(said, "presents another certificate") {
		t.Errorf("re-pin with the old fingerprint: %s", said)
	}
	start(t, nil, "hosts", "repin", second.Address(), "--fingerprint", second.Fingerprint(), "--data", folder).finished()
	list = listedHosts(t, folder)
	if len(list) != 3 || list[2].Datacenter != list[0].Datacenter || list[1].Fingerprint != second.Fingerprint() {
		t.Errorf("login hosts %+v", list)
	}

	s = serve(t, folder)
	elsewhere = elsewhere.at(s.url)
	elsewhere.signIn(credentials(t, second.Address(), "", "root@pam"))
	if said := failedCommand(t, "hosts", "remove", second.Address(), "--data", folder); !strings.Contains(said, "not confirmed") {
		t.Errorf("removal without an answer: %s", said)
	}
	if !elsewhere.signedIn() {
		t.Error("the session ended though nothing was confirmed")
	}
	start(t, nil, "hosts", "remove", second.Address(), "--yes", "--data", folder).finished()
	// Other processes' changes are noticed within a second.
	for limit := time.Now().Add(patience); elsewhere.signedIn(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the session of the removed host is still alive")
		}
	}
	refused403(second.Address())
	start(t, nil, "hosts", "remove", third.Address(), "--yes", "--data", folder).finished()
	if said := failedCommand(t, "hosts", "remove", first.Address(), "--yes", "--data", folder); !strings.Contains(said, "the last login host stays") {
		t.Errorf("removal of the last one: %s", said)
	}
	if !b.at(s.url).signedIn() {
		t.Error("the session of the first host ended")
	}
	if said := failedCommand(t, "hosts", "list", "--data", t.TempDir()); !strings.Contains(said, "there is no installation in") {
		t.Errorf("a folder without an installation: %s", said)
	}
	s.stop()
}

// Why a host can't be looked at is one sentence in plain words.
func TestAddHostThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	serve(t, folder).stop()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := shut.Addr().String()
	shut.Close()
	for address, want := range map[string]string{
		nobody:                           nobody + " does not answer: connection refused",
		"169.254.1.1":                    "169.254.1.1:8006 is not contacted: address 169.254.1.1:8006 is never dialled: link-local",
		plain.Listener.Addr().String():   plain.Listener.Addr().String() + " answers, but not as a Proxmox VE host does",
		"berth-has-no-such-host.invalid": "berth-has-no-such-host.invalid:8006 is not contacted: ",
	} {
		said := refused(t, nil, "hosts", "add", address, "--data", folder)
		if !oneSentence(said, want) || strings.Contains(said, "dial tcp") {
			t.Errorf("%s: said %q, want one sentence with %q", address, said, want)
		}
	}
}

// failedCommand runs a command that must end with status 1, and returns what it said about why.
func failedCommand(t *testing.T, args ...string) string {
	t.Helper()
	p := start(t, nil, args...)
	if code := p.end(); code != 1 {
		t.Errorf("%v: exit status %d, want 1", args, code)
	}
	return p.err.String()
}
