package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/pve"
)

func TestJudge(t *testing.T) {
	all := pve.Permissions{"/": {"VM.PowerMgmt": true, "VM.Allocate": true, "VM.Config.Options": true}}
	running := container.Container{VMID: 101, Status: "running"}
	with := func(change func(*container.Container)) container.Container {
		c := running
		change(&c)
		return c
	}
	stopped := with(func(c *container.Container) { c.Status = "stopped" })
	locked := with(func(c *container.Container) { c.Lock = "backup" })
	template := with(func(c *container.Container) { c.Status, c.Template = "stopped", true })
	lost := with(func(c *container.Container) { c.Status = "unknown" })
	for _, test := range []struct {
		name   string
		action Action
		c      container.Container
		rights pve.Permissions
		want   string // a part of why not; "" when it may be done
	}{
		{"start", Start, stopped, all, ""},
		{"start what runs", Start, running, all, "running already"},
		{"stop", Stop, running, all, ""},
		{"stop what is stopped", Stop, stopped, all, "not running"},
		{"delete what runs", Delete, running, all, "Stop it first"},
		{"delete", Delete, stopped, all, ""},
		{"delete a template", Delete, template, all, ""},
		{"start a template", Start, template, all, "template"},
		{"tag a template", Tag, template, all, ""},
		{"tag what is lost", Tag, lost, all, ""},
		{"stop what is lost", Stop, lost, all, "not known"},
		{"reboot what is locked", Reboot, locked, all, "backup"},
		{"tag what is locked", Tag, locked, all, "backup"},
		{"nothing is known of the rights", Stop, running, nil, ""},
		{"no rights at all", Stop, running, pve.Permissions{"/": {}}, "VM.PowerMgmt on /vms/101"},
		{"rights on the container", Stop, running, pve.Permissions{"/": {}, "/vms": {}, "/vms/101": {"VM.PowerMgmt": false}}, ""},
		{"rights on another", Stop, running, pve.Permissions{"/vms": {}, "/vms/102": {"VM.PowerMgmt": true}}, "VM.PowerMgmt"},
		{"rights from above", Stop, running, pve.Permissions{"/": {}, "/vms": {"VM.PowerMgmt": true}}, ""},
		{"rights above that stop there", Stop, running, pve.Permissions{"/vms": {"VM.PowerMgmt": false}}, "VM.PowerMgmt"},
		{"rights from above that are taken away", Stop, running, pve.Permissions{"/vms": {"VM.PowerMgmt": true}, "/vms/101": {"VM.Audit": true}}, "VM.PowerMgmt"},
		{"another privilege for a deletion", Delete, stopped, pve.Permissions{"/vms": {"VM.PowerMgmt": true}}, "VM.Allocate"},
	} {
		why := ""
		if err := judge(test.action, &test.c, test.rights); err != nil {
			why = words(err)
		}
		if (why == "") != (test.want == "") || !strings.Contains(why, test.want) {
			t.Errorf("%s: %q, want %q", test.name, why, test.want)
		}
	}
}

func TestErrorLine(t *testing.T) {
	for _, test := range []struct {
		log  []string
		want string
	}{
		{[]string{"lxc-start: failed", "TASK ERROR: startup for container '104' failed"}, "startup for container '104' failed"},
		{[]string{"TASK ERROR: first", "later words"}, "first"},
		{[]string{"something", "the last words", "", "TASK ERROR:"}, "the last words"},
		{[]string{"the last words", "  "}, "the last words"},
		{nil, ""},
		{[]string{strings.Repeat("é", 400)}, strings.Repeat("é", 200) + "…"},
	} {
		var lines []pve.LogLine
		for i, text := range test.log {
			lines = append(lines, pve.LogLine{Number: i + 1, Text: text})
		}
		if got := errorLine(lines); got != test.want {
			t.Errorf("%q: %q, want %q", test.log, got, test.want)
		}
	}
}

// TestMayHaveArrived: only what Proxmox VE is certain not to have acted upon may be asked for again.
func TestMayHaveArrived(t *testing.T) {
	of := func(kind pve.Kind, status int, cause error) error {
		return fmt.Errorf("call: %w", &pve.Error{Kind: kind, Status: status, Cause: cause})
	}
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"a refusal", of(pve.KindServer, 500, nil), false},
		{"no privilege", of(pve.KindForbidden, 403, nil), false},
		{"no sign-in", of(pve.KindUnauthenticated, 401, nil), false},
		{"another certificate", of(pve.KindCertificate, 0, nil), false},
		{"nothing was sent", errors.New("no such node"), false},
		{"no connection", of(pve.KindHostUnreachable, 0, syscall.ECONNREFUSED), false},
		{"a broken connection", of(pve.KindHostUnreachable, 0, syscall.ECONNRESET), true},
		{"no answer in time", of(pve.KindHostUnreachable, 0, nil), true},
		{"a proxy before the host", of(pve.KindHostUnreachable, 504, nil), true},
		{"the member was not reached", of(pve.KindMemberUnreachable, 595, nil), false},
		{"the member did not answer", of(pve.KindMemberUnreachable, 596, nil), true},
		{"an answer that is none", of(pve.KindNotProxmox, 200, nil), true},
		{"an answer that is too long", of(pve.KindTooLarge, 200, nil), true},
		{"no connection was free in time", of(pve.KindBusy, 0, nil), true},
		{"given up", of(pve.KindCanceled, 0, nil), true},
	} {
		if got := mayHaveArrived(test.err); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestBlocks(t *testing.T) {
	for kind, want := range map[string]bool{"vzstart": true, "vzdump": true, "hamigrate": true, "vncproxy": false, "termproxy": false} {
		u, err := pve.ParseUPID("UPID:pve1:00001000:00001000:66E00000:" + kind + ":101:alice@pve:")
		if err != nil {
			t.Fatal(err)
		}
		if got := blocks(pve.Task{UPID: u, Running: true}); got != want {
			t.Errorf("%s blocks: %v", kind, got)
		}
		if blocks(pve.Task{UPID: u}) {
			t.Errorf("%s blocks after its end", kind)
		}
	}
}

// TestInputsFromForms: forms send every value as text.
func TestInputsFromForms(t *testing.T) {
	var in ChangeInput
	text := `{"timeout":"90","purge":"true","destroyUnreferenced":"","tags":"a; b,c  d","confirm":"x"}`
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		t.Fatal(err)
	}
	if in.Timeout != 90 || !bool(in.Purge) || bool(in.DestroyUnreferenced) || !slices.Equal(*in.Tags, []string{"a", "b", "c", "d"}) {
		t.Errorf("%+v, tags %v", in, *in.Tags)
	}
	for _, no := range []string{`{"timeout":"soon"}`, `{"timeout":1.5}`, `{"purge":1}`, `{"tags":7}`} {
		if err := json.Unmarshal([]byte(no), &in); err == nil {
			t.Errorf("%s was read", no)
		}
	}
}

func TestTagged(t *testing.T) {
	before := []string{"Family", "media"}
	for _, test := range []struct {
		o    ChangeOptions
		want []string
	}{
		{ChangeOptions{AddTags: Words{"new", "FAMILY"}}, []string{"Family", "media", "new"}},
		{ChangeOptions{RemoveTags: Words{"family", "none"}}, []string{"media"}},
		{ChangeOptions{Tags: &Words{"only"}}, []string{"only"}},
		{ChangeOptions{Tags: &Words{}}, []string{}},
	} {
		if got := test.o.tagged(before); !slices.Equal(got, test.want) {
			t.Errorf("%v, want %v", got, test.want)
		}
	}
	if !sameTags([]string{"B", "a", "a"}, []string{"a", "b"}) || sameTags([]string{"a"}, []string{"a", "b"}) {
		t.Error("tags are not compared as Proxmox VE does")
	}
}

func TestConfirmed(t *testing.T) {
	for _, test := range []struct {
		typed, name string
		ok          bool
	}{
		{"web", "web", true}, {"Web", "web", false}, {"", "web", false}, {"101", "web", false}, {"101", "", true}, {"", "", false},
	} {
		err := confirmed(test.typed, test.name, 101)
		if (err == nil) != test.ok || err != nil && fault.As(err).Code != "confirmation_required" {
			t.Errorf("%q for %q: %v", test.typed, test.name, err)
		}
	}
}

// TestTurnsAreBounded: however many members a host says that it has, a run changes so many containers at a time, and each once.
func TestTurnsAreBounded(t *testing.T) {
	ops := make([]Operation, 0, 300)
	for i := range 300 {
		ops = append(ops, Operation{ID: fmt.Sprint(i), NodeID: "n", Node: fmt.Sprint("member", i/10), State: Waiting})
	}
	ops[7].State = Failed
	var mu sync.Mutex
	turns, members, all, most, mostOfMember := map[string]int{}, map[string]int{}, 0, 0, 0
	full := make(chan struct{}) // closed when as many as may are at it
	takeTurns(t.Context(), ops, func(op Operation) {
		mu.Lock()
		turns[op.ID]++
		members[op.Node]++
		all++
		if most, mostOfMember = max(most, all), max(mostOfMember, members[op.Node]); len(turns) == perRun {
			close(full)
		}
		mu.Unlock()
		<-full
		mu.Lock()
		members[op.Node]--
		all--
		mu.Unlock()
	})
	if len(turns) != 299 || turns["7"] != 0 || most != perRun || mostOfMember != perMember {
		t.Errorf("%d turns, at most %d at a time and %d of a member", len(turns), most, mostOfMember)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	takeTurns(ended, ops, func(op Operation) { t.Errorf("%s begun after the end", op.ID) })
}
