package container

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

var fleet = []Container{
	{NodeID: "n", Node: "pve1", VMID: 100, Name: "gateway", Status: "running", CPU: 0.5, Mem: 3, Uptime: 10, Tags: []string{"network"}},
	{NodeID: "n", Node: "pve2", VMID: 101, Name: "Nextcloud", Status: "running", CPU: 0.1, Mem: 1, Uptime: 30, Tags: []string{"cloud", "family"}},
	{NodeID: "n", Node: "pve1", VMID: 102, Name: "jellyfin", Status: "stopped", Mem: 2, Tags: []string{"family"}},
	{NodeID: "m", Node: "pve1", VMID: 100, Name: "other", Status: "unknown", Tags: []string{}},
}

func TestChoose(t *testing.T) {
	tests := []struct {
		name  string
		query Query
		want  []string
	}{
		{"everything, by VMID", Query{}, []string{"other", "gateway", "Nextcloud", "jellyfin"}},
		{"a part of the name, whatever its case", Query{Q: "NEXT"}, []string{"Nextcloud"}},
		{"the beginning of a VMID", Query{Q: "10", Sort: "name"}, []string{"gateway", "jellyfin", "Nextcloud", "other"}},
		{"not the middle of one", Query{Q: "02"}, nil},
		{"a tag", Query{Q: "family"}, []string{"Nextcloud", "jellyfin"}},
		{"a member", Query{Q: "pve2"}, []string{"Nextcloud"}},
		{"a node", Query{Q: "attic"}, []string{"other"}},
		{"all words", Query{Q: "family pve1"}, []string{"jellyfin"}},
		{"a status", Query{Status: "stopped"}, []string{"jellyfin"}},
		{"neither running nor stopped", Query{Status: "other"}, []string{"other"}},
		{"by name", Query{Sort: "name"}, []string{"gateway", "jellyfin", "Nextcloud", "other"}},
		{"by CPU, downwards", Query{Sort: "-cpu", Status: "running"}, []string{"gateway", "Nextcloud"}},
		{"by memory", Query{Sort: "mem", Q: "pve"}, []string{"other", "Nextcloud", "jellyfin", "gateway"}},
	}
	hosts := map[string]string{"n": "pve.lan:8006", "m": "attic.lan:8006"}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := test.query.Validate(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range choose(pointers(fleet), test.query, func(id string) string { return hosts[id] }) {
				got = append(got, c.Name)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
	if c := count(pointers(fleet)); c != (Counts{Total: 4, Running: 2, Stopped: 1, Other: 1}) {
		t.Errorf("counts %+v", c)
	}
}

func TestQueryValidate(t *testing.T) {
	q := Query{Q: strings.Repeat("a", 201), Status: "paused", Sort: "-color"}
	f := fault.As(q.Validate())
	if f == nil || f.Fields["q"] == "" || f.Fields["status"] == "" || f.Fields["sort"] == "" {
		t.Errorf("%v, want all three fields refused", f)
	}
}

// door is a node whose answer the test decides.
type door struct {
	mu    sync.Mutex
	calls int
	err   error
}

func (d *door) List(context.Context, session.Caller) ([]node.Node, error) {
	return []node.Node{{ID: "n", Address: pve.Address{Host: "pve.lan", Port: 8006}}}, nil
}

func (d *door) Call(context.Context, session.Caller, string, func(context.Context, *pve.Host, pve.Credentials) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	return d.err
}

func caller(datacenter, user string, hash byte) session.Caller {
	id := session.Identity{Datacenter: datacenter, UserID: user}
	return session.Caller{Identity: id, Session: session.Session{Identity: id, Hash: session.Hash{hash}, LoginHost: "n"}}
}

func TestReadingsAreSharedForAMoment(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d := &door{}
	s := NewService(d, func() time.Time { return now })
	alice := caller("dc", "alice@pve", 1)
	list := func(c session.Caller) (List, error) { return s.List(t.Context(), c, Query{}) }
	for range 3 {
		if _, err := list(alice); err != nil {
			t.Fatal(err)
		}
	}
	if d.calls != 1 {
		t.Errorf("%d calls within the same moment, want 1", d.calls)
	}
	// The same user id of another datacenter is somebody else.
	for i, other := range []session.Caller{caller("other", "alice@pve", 2), caller("dc", "bob@pve", 3)} {
		if _, err := list(other); err != nil {
			t.Fatal(err)
		}
		if d.calls != 2+i {
			t.Errorf("%v was shown somebody else's reading", other.Identity)
		}
	}
	now = now.Add(fresh)
	if _, err := list(alice); err != nil || d.calls != 4 {
		t.Errorf("%v, %d calls after %v, want 4", err, d.calls, fresh)
	}
}

func TestLastKnownContainersStay(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d := &door{}
	s := NewService(d, func() time.Time { return now })
	alice := caller("dc", "alice@pve", 1)
	s.readings[source{alice.Identity, "n"}] = &reading{containers: pointers(fleet[:2]), at: now, tried: now.Add(-time.Hour), asked: now}
	read := now
	now = now.Add(4 * time.Minute)
	d.err = &pve.Error{Kind: pve.KindHostUnreachable}
	for range 5 {
		got, err := s.List(t.Context(), alice, Query{})
		if err != nil || len(got.Items) != 2 || got.Nodes[0].Problem != "it doesn't answer" || !got.Nodes[0].ReadAt.Equal(read) {
			t.Fatalf("%+v, %v; want what was last known", got, err)
		}
	}
	if d.calls != 1 {
		t.Errorf("a node that doesn't answer was asked %d times in a row, want 1", d.calls)
	}
	now = now.Add(keptFor + time.Second)
	s.Sweep()
	if got, err := s.List(t.Context(), alice, Query{}); err == nil || len(got.Items) != 0 {
		t.Errorf("%+v, %v; want the node's error once nothing is known any more", got, err)
	}
}

func TestEndedSessionIsNotANodesProblem(t *testing.T) {
	now := time.Now()
	s := NewService(&door{err: fault.SignInRequired()}, func() time.Time { return now })
	if _, err := s.List(t.Context(), caller("dc", "alice@pve", 1), Query{}); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("%v, want that a sign-in is required", err)
	}
}

func TestReadingsAreBounded(t *testing.T) {
	now := time.Now()
	s := NewService(&door{}, func() time.Time { now = now.Add(time.Millisecond); return now })
	for i := range maxKept + 50 {
		if _, err := s.List(t.Context(), caller("dc", strings.Repeat("a", i%60)+string(rune('a'+i/60)), 1), Query{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.readings) > maxKept {
		t.Errorf("%d readings kept, want at most %d", len(s.readings), maxKept)
	}
}

func pointers(containers []Container) []*Container {
	var all []*Container
	for i := range containers {
		all = append(all, &containers[i])
	}
	return all
}

func TestListEncodesAsJSON(t *testing.T) {
	for _, list := range []List{
		{Items: []*Container{}, Nodes: []Source{}},
		{Items: pointers(fleet[:1]), Nodes: []Source{{NodeID: "n", Problem: "<it>"}}},
		{Items: pointers(fleet), Counts: Counts{Total: 4, Running: 2}, Nodes: []Source{{NodeID: "n", ReadAt: time.Now()}}},
	} {
		want, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := list.EncodeJSON(&got); err != nil || got.String() != string(want) {
			t.Errorf("%v: %s, want %s", err, &got, want)
		}
	}
}
