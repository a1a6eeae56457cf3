package container

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/fault"
)

var guests = []Container{
	{NodeID: "n", Kind: LXC, Node: "pve1", VMID: 100, Name: "gateway", Addresses: []string{"10.0.0.7"}, Status: "running", CPU: 0.5, Mem: 3, Uptime: 10, Tags: []string{"network"}},
	{NodeID: "n", Kind: LXC, Node: "pve2", VMID: 101, Name: "Nextcloud", Status: "running", CPU: 0.1, Mem: 1, Uptime: 30, Tags: []string{"cloud", "family"}},
	{NodeID: "n", Kind: LXC, Node: "pve1", VMID: 102, Name: "jellyfin", Status: "stopped", Mem: 2, Tags: []string{"family"}},
	{NodeID: "m", Kind: LXC, Node: "pve1", VMID: 100, Name: "other", Status: "unknown", Tags: []string{}},
	{NodeID: "n", Kind: QEMU, Node: "pve1", VMID: 103, Name: "desktop", Status: "running", Tags: []string{}},
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
		{"an address", Query{Q: "10.0.0"}, []string{"gateway"}},
		{"a whole tag", Query{Tag: "family", Sort: "name"}, []string{"jellyfin", "Nextcloud"}},
		{"not a part of one", Query{Tag: "fam"}, nil},
		{"those of a node", Query{Node: "m"}, []string{"other"}},
		{"machines", Query{Kind: QEMU}, []string{"desktop"}},
		{"everything there is", Query{Kind: "all", Sort: "-vmid"}, []string{"desktop", "jellyfin", "Nextcloud", "other", "gateway"}},
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
			page, matched, next := choose(sortedBy(pointers(guests), test.query.Sort), filter{test.query, strings.Fields(strings.ToLower(test.query.Q)), hosts})
			if got := names(page); !slices.Equal(got, test.want) || matched != len(test.want) || next != "" {
				t.Errorf("%v, %d, %q; want %v", got, matched, next, test.want)
			}
		})
	}
	if c := count(pointers(guests), ""); c != (Counts{Total: 4, Running: 2, Stopped: 1, Other: 1}) {
		t.Errorf("counts %+v", c)
	}
	if c := count(pointers(guests), QEMU); c != (Counts{Total: 1, Running: 1}) {
		t.Errorf("counts of machines %+v", c)
	}
}

func names(all []*Container) []string {
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

func TestPages(t *testing.T) {
	all := pointers(guests)
	for sort := range columns {
		for _, sort := range []string{sort, "-" + sort} {
			want, _, _ := choose(sortedBy(all, sort), filter{Query: Query{Sort: sort, Kind: "all"}})
			q := Query{Sort: sort, Kind: "all", Limit: "2"}
			var got []*Container
			for range len(all) {
				if err := q.Validate(); err != nil {
					t.Fatalf("%s: %v", sort, err)
				}
				page, matched, next := choose(sortedBy(all, sort), filter{Query: q})
				if matched != len(all) {
					t.Errorf("%s: %d match", sort, matched)
				}
				got = append(got, page...)
				if q.Cursor = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: pages %v, want %v", sort, names(got), names(want))
			}
		}
	}
	// The container that a page ended with has gone, and others have come.
	first, _, next := choose(sortedBy(all, "name"), filter{Query: Query{Sort: "name", Limit: "2"}})
	rest := append(pointers(guests[2:]), &Container{Kind: LXC, Name: "aaa"}, &Container{Kind: LXC, Name: "kiwi"})
	page, _, _ := choose(sortedBy(rest, "name"), filter{Query: Query{Sort: "name", Cursor: next}})
	if !slices.Equal(names(first), []string{"gateway", "jellyfin"}) || !slices.Equal(names(page), []string{"kiwi", "other"}) {
		t.Errorf("%v, then %v", names(first), names(page))
	}
	if window, matched, _ := choose(sortedBy(all, ""), filter{Query: Query{Offset: 1, Limit: "2"}}); matched != 4 || !slices.Equal(names(window), []string{"gateway", "Nextcloud"}) {
		t.Errorf("a window: %v of %d", names(window), matched)
	}
}

func TestQueryValidate(t *testing.T) {
	long := strings.Repeat("a", 201)
	for _, q := range []Query{
		{Q: long, Node: long, Tag: long, Status: "paused", Kind: "vm", Sort: "-color", Limit: "0", Cursor: "x"},
		{Q: long, Node: long, Tag: long, Status: "x", Kind: "x", Sort: "x", Limit: "1001", Cursor: cursorAt(&Container{}, "name")},
		{Q: long, Node: long, Tag: long, Status: "x", Kind: "x", Sort: "x", Limit: "many", Cursor: strings.Repeat("A", 3<<10)},
	} {
		f := fault.As(q.Validate())
		if f == nil || len(f.Fields) != 8 {
			t.Errorf("%v, want all eight fields refused", f)
		}
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
		{Items: pointers(guests[:1]), Next: "n", Version: "v", Nodes: []Source{{NodeID: "n", Problem: "<it>"}}},
		{Items: pointers(guests), Counts: Counts{Total: 4, Running: 2}, Nodes: []Source{{NodeID: "n", ReadAt: time.Now()}}},
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

// equal must look at every field but the counters, which are shown as rates.
func TestEqualLooksAtEveryField(t *testing.T) {
	whole := Container{Tags: []string{"a"}, Addresses: []string{"a"}, Task: &RunningTask{}}
	same := whole
	same.Task, same.Tags = &RunningTask{}, []string{"a"}
	if !whole.equal(&same) {
		t.Error("equal containers differ")
	}
	for f := range reflect.TypeFor[Container]().Fields() {
		if !f.IsExported() {
			continue
		}
		other := whole
		switch v := reflect.ValueOf(&other).Elem().FieldByIndex(f.Index); v.Kind() {
		case reflect.String:
			v.SetString("x")
		case reflect.Int, reflect.Int32, reflect.Int64:
			v.SetInt(1)
		case reflect.Float64:
			v.SetFloat(1)
		case reflect.Bool:
			v.SetBool(true)
		default:
			v.SetZero()
		}
		if whole.equal(&other) || other.equal(&whole) {
			t.Errorf("%s does not count", f.Name)
		}
	}
}
