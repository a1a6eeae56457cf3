package pve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// readRows reads a list by itself, without an envelope.
func readRows[T any](data []byte, read func(record) T) ([]T, error) {
	var list []T
	err := decodeList(json.NewDecoder(bytes.NewReader(data)), func(r record) error {
		list = append(list, read(r))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// TestTolerance reads the same container as different versions of Perl and PVE write it.
func TestTolerance(t *testing.T) {
	want := Resource{
		ID: "lxc/101", Type: "lxc", Status: "running", Node: "pve1", VMID: 101, Name: "7", CPU: 0.25, MaxCPU: 2,
		Mem: 1 << 30, MaxMem: 2 << 30, Uptime: 90 * time.Second, Tags: []string{"a", "b"}, Template: true,
	}
	for _, row := range []string{
		`{"id":"lxc/101","type":"lxc","status":"running","node":"pve1","vmid":101,"name":"7","cpu":0.25,"maxcpu":2,"mem":1073741824,"maxmem":2147483648,"uptime":90,"tags":"a;b","template":1}`,
		`{"id":"lxc/101","type":"lxc","status":"running","node":"pve1","vmid":"101","name":7,"cpu":"0.25","maxcpu":"2","mem":"1073741824","maxmem":"2147483648","uptime":"90","tags":"a,b","template":"1"}`,
		`{"id":"lxc/101","type":"lxc","status":"running","node":"pve1","vmid":101.0,"name":"7","cpu":2.5e-1,"maxcpu":2.0,"mem":1.073741824e9,"maxmem":2147483648.9,"uptime":90.5,"tags":" a  b ","template":true,"disk":null,"pool":null,"lock":null,"later":{"a":[1]},"netin":"x","netout":{},"diskread":[],"diskwrite":true}`,
	} {
		list, err := readRows([]byte("["+row+",null]"), readResource)
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		got := list[0]
		if !slices.Equal(got.Tags, want.Tags) {
			t.Errorf("tags %q", got.Tags)
		}
		got.Tags, got.Content = want.Tags, nil
		if a, b := must(json.Marshal(got)), must(json.Marshal(want)); string(a) != string(b) {
			t.Errorf("%s\nreads as %s\nwant     %s", row, a, b)
		}
	}
}

func TestScalars(t *testing.T) {
	var r record
	text := `{"big":1e300,"small":-1e300,"huge":"99999999999999999999","nan":"NaN","inf":"Inf","neg":-5,"no":"no","off":"off","false":false,"zero":0,
		"zerotext":"0","yes":"yes","late":253402300800,"now":1795000000,"esc":"\u00e9\n","vmid":99,"vmid2":1000000000,"negvmid":-101}`
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	if r.int("big") != math.MaxInt64 || r.int("small") != math.MinInt64 || r.int("huge") != math.MaxInt64 || r.int("nan") != 0 || r.int("inf") != 0 {
		t.Error("the ends of int64")
	}
	if r.float("nan") != 0 || r.float("inf") != 0 || r.float("absent") != 0 {
		t.Error("figures that aren't")
	}
	if r.seconds("neg") != 0 || r.seconds("big") < 0 {
		t.Error("durations")
	}
	for _, name := range []string{"no", "off", "false", "zero", "zerotext", "absent"} {
		if r.bool(name) {
			t.Errorf("%s is true", name)
		}
	}
	if !r.bool("yes") || !r.bool("neg") {
		t.Error("truth")
	}
	if !r.time("late").IsZero() || !r.time("zero").IsZero() || !r.time("neg").IsZero() || r.time("now").Unix() != 1795000000 {
		t.Error("times")
	}
	if r.text("esc") != "é\n" || r.text("absent") != "" {
		t.Error("texts")
	}
	if r.vmid("vmid") != 0 || r.vmid("vmid2") != 0 || r.vmid("negvmid") != 0 {
		t.Error("VMIDs")
	}
	if r.object("absent").bool("x") || r.object("now").text("x") != "" {
		t.Error("objects")
	}
}

func TestCheckShape(t *testing.T) {
	for text, fits := range map[string]bool{
		``:                          true,
		`]]]]}}},,,`:                true,
		`{"a":"[[[[,,,,{{{{\"[[["}`: true,
		`"unfinished \`:             true,
		strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth):                           true,
		strings.Repeat("[", maxDepth+1):                                                         false,
		"[" + strings.Repeat("1,", maxRows-1) + "1]":                                            true,
		"[" + strings.Repeat("1,", maxRows) + "1]":                                              false,
		"{" + strings.Repeat(`"a":1,`, maxMembers-1) + `"a":1}`:                                 true,
		"{" + strings.Repeat(`"a":1,`, maxMembers) + `"a":1}`:                                   false,
		`[[` + strings.Repeat("1,", maxRows-1) + "1],[" + strings.Repeat("1,", maxRows) + "1]]": false,
	} {
		if err := checkShape([]byte(text)); (err == nil) != fits {
			t.Errorf("checkShape(%.40q) = %v", text, err)
		}
	}
}

func TestContainerAnswers(t *testing.T) {
	h, _ := pinned(t, always(ok(`{"status":"running","name":"gitea","ha":{"managed":1,"state":"started"},"cpus":"1.5","uptime":"60","swap":1,"maxswap":2,"lock":null}`)))
	ct, err := h.ContainerStatus(t.Context(), alice, "pve1", 101)
	if err != nil || ct.VMID != 101 || !ct.HA || ct.HAState != "started" || ct.CPUs != 1.5 || ct.Uptime != time.Minute || ct.MaxSwap != 2 {
		t.Errorf("%+v, %v", ct, err)
	}
	h, _ = pinned(t, always(ok(`{"hostname":"gitea","digest":"abc","memory":"512","cores":2,"unprivileged":"1","tags":"a;b","net0":"name=eth0,bridge=vmbr0","lxc":[["lxc.apparmor.profile","unconfined"]],"description":"x\ny"}`)))
	config, err := h.ContainerConfig(t.Context(), alice, "pve1", 101)
	if err != nil || config.Hostname != "gitea" || config.Memory != 512 || config.Cores != 2 || !config.Unprivileged || len(config.Tags) != 2 ||
		config.Options["net0"] != "name=eth0,bridge=vmbr0" || config.Options["memory"] != "512" || config.Description != "x\ny" {
		t.Errorf("%+v, %v", config, err)
	}
	for _, data := range []string{`null`, `{}`, `[]`, `{"status":null}`} {
		h, _ := pinned(t, always(ok(data)))
		if _, err := h.ContainerStatus(t.Context(), alice, "pve1", 101); !IsKind(err, KindNotProxmox) {
			t.Errorf("status %s: %v", data, err)
		}
		if _, err := h.ContainerConfig(t.Context(), alice, "pve1", 101); !IsKind(err, KindNotProxmox) {
			t.Errorf("config %s: %v", data, err)
		}
	}
}

func TestNextID(t *testing.T) {
	for data, want := range map[string]int{`105`: 105, `"105"`: 105, `null`: 0, `99`: 0, `"x"`: 0, `[]`: 0, `{}`: 0} {
		h, _ := pinned(t, always(ok(data)))
		got, err := h.NextID(t.Context(), alice, 0)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%s: %d, %v", data, got, err)
		}
	}
}

func TestPermissionsHas(t *testing.T) {
	h, _ := pinned(t, always(ok(`{"/":{},"/vms/101":{"VM.Audit":1,"VM.Console":0},"/odd":7}`)))
	p, err := h.Permissions(t.Context(), alice)
	if err != nil || !p.Has("/vms/101", "VM.Audit") || !p.Has("/vms/101", "VM.Console") || p.Has("/vms/101", "VM.Backup") || p.Has("/vms/102", "VM.Audit") {
		t.Errorf("%v, %v", p, err)
	}
	p["/"] = map[string]bool{"Sys.Audit": true, "Sys.Modify": false}
	for path, want := range map[string]bool{"/vms/101": true, "/vms/102": false, "/": false, "vms": false} {
		if p.Holds(path, "VM.Audit") != want {
			t.Errorf("VM.Audit on %s: %v", path, !want)
		}
	}
	if !p.Holds("/nodes/pve1", "Sys.Audit") || p.Holds("/nodes/pve1", "Sys.Modify") || !p.Holds("/", "Sys.Modify") || p.Holds("/vms/101", "Sys.Audit") {
		t.Error("what is passed on and what is not")
	}
	if !p["/vms/101"]["VM.Audit"] || p["/vms/101"]["VM.Console"] {
		t.Error("propagation is lost")
	}
}

func TestCreateTokenAnswers(t *testing.T) {
	for data, good := range map[string]bool{
		`{"full-tokenid":"alice@pve!dash","value":"1234","info":{"privsep":1}}`: true,
		`{"full-tokenid":"root@pam!dash","value":"1234"}`:                       false,
		`{"full-tokenid":"alice@pve!dash"}`:                                     false,
		`{"full-tokenid":"alice@pve!dash","value":"a b"}`:                       false,
	} {
		h, _ := pinned(t, always(ok(data)))
		token, err := h.CreateToken(t.Context(), alice, "alice@pve", "dash", TokenOptions{})
		if (err == nil) != good || (token == Token{ID: "alice@pve!dash", Secret: "1234"}) != good {
			t.Errorf("%s: %v, %v", data, token, err)
		}
	}
}

func TestTokens(t *testing.T) {
	h, _ := pinned(t, always(ok(`[{"tokenid":"dash","privsep":0,"expire":"1800000000","comment":"a\nb"},{"tokenid":"x","privsep":"1","expire":0},{"tokenid":"y"},{"privsep":0}]`)))
	list, err := h.Tokens(t.Context(), alice, "alice@pve")
	want := []TokenInfo{{Name: "dash", FullPrivileges: true, Expire: time.Unix(1800000000, 0), Comment: "a b"}, {Name: "x"}, {Name: "y"}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestInterfaces(t *testing.T) {
	h, _ := pinned(t, always(ok(`[{"name":"lo","hwaddr":"00:00:00:00:00:00","inet":"127.0.0.1/8","inet6":"::1/128"},
		{"name":"eth0","hwaddr":"BC:24:11:00:00:65","inet":"192.0.2.5/24","ip-addresses":[{"ip-address":"192.0.2.5","prefix":24,"ip-address-type":"inet"},
			{"ip-address":"192.0.2.6","prefix":"24"},{"ip-address":"x","prefix":24},{"ip-address":"192.0.2.7"},7,null]},
		{"name":"eth1","ip-addresses":{}},{"hwaddr":"x"},null]`)))
	list, err := h.Interfaces(t.Context(), alice, "pve1", 101)
	want := `[{lo 00:00:00:00:00:00 [127.0.0.1/8 ::1/128]} {eth0 bc:24:11:00:00:65 [192.0.2.5/24 192.0.2.6/24]} {eth1  []}]`
	if got := fmt.Sprint(list); err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	h, _ = pinned(t, always(ok(`null`)))
	if list, err := h.Interfaces(t.Context(), alice, "pve1", 101); err != nil || len(list) != 0 {
		t.Errorf("of a stopped one: %v, %v", list, err)
	}
	h, _ = pinned(t, always(ok(`[`+strings.Repeat(`{"name":"veth"},`, maxInterfaces-1)+`{"name":"veth"}]`)))
	if list, err := h.Interfaces(t.Context(), alice, "pve1", 101); err != nil || len(list) != maxInterfaces {
		t.Errorf("of one that is host to many: %d, %v", len(list), err)
	}
	h, _ = pinned(t, always(ok(`[`+strings.Repeat(`{"name":"veth"},`, maxInterfaces)+`{"name":"veth"}]`)))
	_, err = h.Interfaces(t.Context(), alice, "pve1", 101)
	wantKind(t, err, KindTooLarge)
}

func TestHistory(t *testing.T) {
	h, _ := pinned(t, always(ok(`[{"time":1800000000,"cpu":"0.25","maxcpu":2,"mem":null,"netin":1.5e3,"netout":"NaN","diskread":-1,"diskwrite":0},{"time":"1800000060"}]`)))
	list, err := h.History(t.Context(), alice, "pve1", 101, LastHour, Average)
	at := time.Unix(1800000000, 0)
	known := func(f float64) Figure { return Figure{f, true} }
	want := []Point{
		{Time: at, CPU: known(0.25), MaxCPU: known(2), NetIn: known(1500), DiskWrite: known(0)},
		{Time: at.Add(time.Minute)},
	}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestSetContainerConfig(t *testing.T) {
	h, f := pinned(t, always(ok(`null`)))
	empty, text := "", "x"
	for body, change := range map[string]ConfigChange{
		"tags=a%3Bb":                          {Tags: &[]string{"a", "b"}},
		"description=x":                       {Description: &text},
		"delete=tags%2Cdescription&digest=ab": {Tags: &[]string{}, Description: &empty, Digest: "ab"},
	} {
		before := len(f.seen())
		if err := h.SetContainerConfig(t.Context(), alice, "pve1", 101, change); err != nil || f.seen()[before].body != body {
			t.Errorf("%q: %v", body, err)
		}
	}
	before := len(f.seen())
	var input *InputError
	if err := h.SetContainerConfig(t.Context(), alice, "pve1", 101, ConfigChange{Digest: "ab"}); !errors.As(err, &input) || len(f.seen()) != before {
		t.Errorf("nothing to change: %v", err)
	}
}

// FuzzEntries reads whatever a host could send as an entry of a list.
func FuzzEntries(f *testing.F) {
	f.Add([]byte(`[{"upid":"UPID:pve1:00000001:00000001:00000001:vzstart:101:root@pam:","endtime":"1","status":"OK"}]`))
	f.Add([]byte(`[{"tokenid":"dash","privsep":0,"expire":1e300,"comment":"a\u202eb"}]`))
	f.Add([]byte(`[{"name":"eth0","hwaddr":"A","inet":"1.2.3.4/8","ip-addresses":[{"ip-address":"::1","prefix":128},{},[]]}]`))
	f.Add([]byte(`[{"time":1,"cpu":"0.1","mem":-1,"netin":"inf"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkShape(data) != nil {
			return
		}
		tasks, _ := readRows(data, readTask)
		for _, task := range withNames(tasks) {
			if task.UPID.IsZero() || task.Running != task.End.IsZero() || task.Running && task.ExitStatus != "" {
				t.Fatalf("%+v", task)
			}
		}
		interfaces, _ := readRows(data, readInterface)
		for _, i := range interfaces {
			if len(i.Addresses) > maxAddresses || slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return !p.IsValid() }) {
				t.Fatalf("%+v", i)
			}
		}
		points, _ := readRows(data, readPoint)
		for _, p := range points {
			for _, figure := range []Figure{p.CPU, p.MaxCPU, p.Mem, p.MaxMem, p.Disk, p.MaxDisk, p.NetIn, p.NetOut, p.DiskRead, p.DiskWrite} {
				if !(figure.Value >= 0) || math.IsInf(figure.Value, 0) || !figure.Known && figure.Value != 0 {
					t.Fatalf("%+v", p)
				}
			}
		}
		tokens, _ := readRows(data, readTokenInfo)
		for _, token := range tokens {
			if strings.ContainsAny(token.Comment+token.Name, "\n\x1b\u202e") || len(token.Name) > maxName {
				t.Fatalf("%+v", token)
			}
		}
	})
}

func FuzzResources(f *testing.F) {
	f.Add([]byte(`[{"id":"lxc/101","vmid":"101","cpu":"0.1","tags":"a;b","template":1,"uptime":1e300}]`))
	f.Add([]byte(`[null,{},{"vmid":null,"mem":{},"content":"a,b"}]`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"a":[[[[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkShape(data) != nil {
			return
		}
		list, err := readRows(data, readResource)
		if err != nil && list != nil {
			t.Fatal("an error came with rows")
		}
		for _, r := range list {
			if r.VMID != 0 && (r.VMID < MinVMID || r.VMID > MaxVMID) || r.Uptime < 0 || math.IsNaN(r.CPU) || math.IsInf(r.CPU, 0) || slices.Contains(r.Tags, "") {
				t.Fatalf("%+v", r)
			}
		}
		_, _ = readRows(data, readContainer)
		flags(data)
	})
}
