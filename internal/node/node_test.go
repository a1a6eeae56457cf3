package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func record(id, cluster, said string, minutes int) Record {
	return Record{Node: Node{ID: id, Cluster: cluster, Created: now.Add(time.Duration(minutes) * time.Minute)}, SaidGroup: said}
}

// Nodes of one cluster are one group, and so is what their owner put together with any of them.
func TestGroup(t *testing.T) {
	records := []Record{
		record("e", "c5", "", 5), record("d", "c4", "said", 4), record("c", "c3", "said", 3), record("b", "c1", "", 2), record("a", "c1", "other", 1),
		record("f", "c3", "", 6), record("g", "c6", "other", 0),
	}
	group(records)
	got := map[string]string{}
	for _, r := range records {
		got[r.ID] = r.Group
	}
	want := map[string]string{"a": "c6", "b": "c6", "g": "c6", "c": "c3", "d": "c3", "f": "c3", "e": "c5"}
	for id, group := range want {
		if got[id] != group {
			t.Errorf("%s is in group %s, want %s", id, got[id], group)
		}
	}
}

// TestAbuseHostClaimsAnotherCluster: a host that names somebody else's certificate is no door to their cluster.
func TestAbuseHostClaimsAnotherCluster(t *testing.T) {
	mine, theirs := pve.Fingerprint{1}, pve.Fingerprint{2}
	key, other := pve.KeyPin{1}, pve.KeyPin{2}
	node := func(shown pve.Fingerprint, key *pve.KeyPin, named ...pve.Fingerprint) Record {
		return Record{Node: Node{Fingerprint: shown, Key: key}, Members: Members{Fingerprints: named}}
	}
	shared := func(r Record) Record {
		r.Members.Shared = true
		return r
	}
	for _, test := range []struct {
		name string
		a, b Record
		want bool
	}{
		{"each names the other", node(mine, nil, mine, theirs), node(theirs, nil, theirs, mine), true},
		{"one names the other", node(mine, nil, mine, theirs), node(theirs, nil, theirs), false},
		{"the same key", node(mine, &key), node(theirs, &key), true},
		{"other keys", node(mine, &key), node(theirs, &other), false},
		{"neither pins or names anything", node(mine, nil), node(theirs, nil), false},
		{"no certificate was seen yet", node(pve.Fingerprint{}, nil, pve.Fingerprint{}), node(pve.Fingerprint{}, nil, pve.Fingerprint{}), false},
		{"a certificate for many names", shared(node(mine, &key, mine)), shared(node(mine, &key, mine)), false},
		{"one of them for many names", node(mine, &key, mine), shared(node(mine, &key, mine)), false},
	} {
		if same(test.a, test.b) != test.want || same(test.b, test.a) != test.want {
			t.Errorf("%s: %v, want %v", test.name, !test.want, test.want)
		}
	}
}

func TestAlike(t *testing.T) {
	node := func(names, guests string) Record {
		r := Record{Members: Members{Names: strings.Fields(names), Guests: strings.Fields(guests)}}
		slices.Sort(r.Members.Guests)
		return r
	}
	for _, test := range []struct {
		a, b Record
		want bool
	}{
		{node("pve1", "a b c"), node("pve1", "a b c"), true},
		{node("pve1", "a b c d"), node("pve1", "b"), true}, // one may see less
		{node("pve1", "a b c d"), node("pve1", "a x y z"), false},
		{node("pve1", "a"), node("pve2", "a"), false},
		{node("pve1", ""), node("pve1", ""), false},
		{node("", "a"), node("", "a"), false},
	} {
		if got := alike(test.a, test.b); got != test.want || alike(test.b, test.a) != test.want {
			t.Errorf("%v and %v: %v", test.a.Members, test.b.Members, got)
		}
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"root@pam": "root@pam", "berth-ab12": "berth-ab12", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "-rf": "'-rf'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%q became %s, want %s", in, got, want)
		}
	}
}

func TestRightsOf(t *testing.T) {
	held := pve.Permissions{
		"/vms": {"VM.Audit": true, "VM.Console": false}, "/vms/101": {"VM.PowerMgmt": true}, "/pool/lab": {"VM.PowerMgmt": true},
		"/storage": {"VM.Snapshot": true},
	}
	for i := range 30 {
		held[fmt.Sprintf("/vms/%d", 200+i)] = map[string]bool{"VM.Allocate": true}
	}
	got := map[string]string{}
	for _, r := range rightsOf(held) {
		got[r.Part] = fmt.Sprint(r.Held, " ", len(r.Paths), " ", r.More)
	}
	// A privilege on /vms that does not propagate is none on a container.
	want := map[string]string{
		"list": "everywhere 0 0", "power": "some 2 0", "snapshots": "nowhere 0 0", "console": "nowhere 0 0", "config": "nowhere 0 0", "delete": "some 20 10",
	}
	for part, w := range want {
		if got[part] != w {
			t.Errorf("%s: %s, want %s", part, got[part], w)
		}
	}
	if canList(rightsOf(pve.Permissions{"/": {}})) || !holdsNothing(pve.Permissions{"/": {}, "/vms": nil}) || holdsNothing(held) {
		t.Error("a credential without any privilege is taken for one that has some")
	}
}

func TestClockWords(t *testing.T) {
	at := pve.Address{Host: "pve.lan", Port: 8006}
	for skew, want := range map[time.Duration]string{
		0: "", 4 * time.Minute: "", -4 * time.Minute: "", 6 * time.Minute: "6 minutes ahead of", -90 * time.Minute: "90 minutes behind",
		3 * time.Hour: "3 hours ahead of", -72 * time.Hour: "3 days behind",
	} {
		if got := clockWords(at, skew); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q in it", skew, got, want)
		}
	}
}

// FuzzSettings: whatever is sent, it is refused with words for its fields or taken as something that can be sent to a host.
func FuzzSettings(f *testing.F) {
	f.Add("n", "pve.lan", "", "token", "root@pam!berth", "00000000-0000-4000-8000-000000000000", "", "", "")
	f.Add("", "https://[::1]:8006/", "AB:CD", "made", "", "", "root", "x", "pam")
	f.Fuzz(func(t *testing.T, name, host, fingerprint, credential, tokenID, secret, user, password, realm string) {
		in := Settings{Name: name, Host: host, Fingerprint: fingerprint, Credential: credential, TokenID: tokenID, TokenSecret: secret, Username: user, Password: password, Realm: realm}
		p, err := in.plan(nil)
		if err != nil {
			if f := fault.As(err); f == nil || len(f.Fields) == 0 || secret != "" && len(secret) > 8 && strings.Contains(fmt.Sprint(f.Fields), secret) {
				t.Errorf("%+v: %v", in, err)
			}
			return
		}
		if p.loginHost == "" && (p.address == (pve.Address{}) || len(p.name) > maxName) || p.credential == ByToken && (!tokenSecretForm(p.secret) || strings.ContainsAny(p.tokenID, " \r\n:")) {
			t.Errorf("%+v became %+v", in, p)
		}
	})
}

func tokenSecretForm(s string) bool { return len(s) == 36 && !strings.ContainsAny(s, " \r\n") }
