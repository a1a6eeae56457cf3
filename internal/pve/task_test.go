package pve

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseUPID(t *testing.T) {
	const text = "UPID:pve-1:0000C0DE:0A1B2C3D4:6B04135C:vzstart:101:alice@pve!dash:"
	u, err := ParseUPID(text)
	want := UPID{Node: "pve-1", PID: 0xC0DE, PStart: 0x0A1B2C3D4, Start: time.Unix(0x6B04135C, 0).UTC(), Type: "vzstart", ID: "101", User: "alice@pve!dash", text: text}
	if err != nil || u != want || u.String() != text || u.IsZero() {
		t.Errorf("%#v, %v", u, err)
	}
	if u, err := ParseUPID("UPID:pve1:00000001:00000001:00000001:aptupdate::root@pam:"); err != nil || u.ID != "" {
		t.Errorf("without an id: %v, %v", u, err)
	}
	// A UPID is JSON text, and keys of JSON objects.
	stored := must(json.Marshal(map[UPID]UPID{u: {}}))
	var back map[UPID]UPID
	if err := json.Unmarshal(stored, &back); err != nil || len(back) != 1 || back[u] != (UPID{}) {
		t.Errorf("%s reads back as %v, %v", stored, back, err)
	}
	for _, s := range []string{
		"", "UPID", strings.TrimSuffix(text, ":"), text + ":", text + "x", "upid" + text[4:], " " + text,
		"UPID::0000C0DE:0A1B2C3D:6B04135C:vzstart:101:alice@pve:",
		"UPID:-pve:0000C0DE:0A1B2C3D:6B04135C:vzstart:101:alice@pve:",
		"UPID:p/e:0000C0DE:0A1B2C3D:6B04135C:vzstart:101:alice@pve:",
		"UPID:pve1:C0DE:0A1B2C3D:6B04135C:vzstart:101:alice@pve:",
		"UPID:pve1:0000C0DG:0A1B2C3D:6B04135C:vzstart:101:alice@pve:",
		"UPID:pve1:0000C0DE:0A1B2C3D4E:6B04135C:vzstart:101:alice@pve:",
		"UPID:pve1:0000C0DE:0A1B2C3D:6B04135:vzstart:101:alice@pve:",
		"UPID:pve1:0000C0DE:0A1B2C3D:6B04135C::101:alice@pve:",
		"UPID:pve1:0000C0DE:0A1B2C3D:6B04135C:vzstart:101::",
		"UPID:pve1:0000C0DE:0A1B2C3D:6B04135C:vz start:101:alice@pve:",
		"UPID:pve1:0000C0DE:0A1B2C3D:6B04135C:vzstart:1/../2:alice@pve:",
		"UPID:pve1:0000C0DE:0A1B2C3D:6B04135C:vzstart:101:alice@pve\n:",
		"UPID:pve1:0000C0DE:0A1B2C3D:6B04135C:vzstart:101:" + strings.Repeat("a", maxUPID) + ":",
	} {
		var input *InputError
		if u, err := ParseUPID(s); !errors.As(err, &input) || u != (UPID{}) {
			t.Errorf("ParseUPID(%.90q) = %v, %v", s, u, err)
		}
	}
}

func TestTaskOK(t *testing.T) {
	for status, want := range map[string]bool{
		"OK": true, "WARNINGS: 1": true, "WARNINGS: 12": true, "WARNINGS: ": false, "WARNINGS: x": false, "": false, "ok": false,
		"OK ": false, "command 'x' failed: exit code 1": false, "unexpected status": false,
	} {
		if got := (Task{ExitStatus: status}).OK(); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
	if (Task{Running: true, ExitStatus: "OK"}).OK() {
		t.Error("a running task has ended well")
	}
}

func TestTasks(t *testing.T) {
	u := testUPID.String()
	h, _ := pinned(t, always(reply("200 OK", `{"total":"17","data":[`+
		`{"upid":"`+u+`","starttime":1,"endtime":"1795400000","status":"OK"},`+
		`{"upid":"`+u+`","status":"RUNNING"},{"upid":"`+u+`"},{"upid":"odd","endtime":1},null]}`)))
	tasks, total, err := h.Tasks(t.Context(), alice, "pve1", TaskFilter{})
	if err != nil || total != 17 || len(tasks) != 3 {
		t.Fatalf("%v, %d, %v", tasks, total, err)
	}
	if !tasks[0].OK() || tasks[0].End.Unix() != 1795400000 || tasks[0].UPID != testUPID {
		t.Errorf("%+v", tasks[0])
	}
	for _, task := range tasks[1:] {
		if !task.Running || task.ExitStatus != "" {
			t.Errorf("%+v", task)
		}
	}
}

func TestClusterTasks(t *testing.T) {
	u := testUPID.String()
	h, _ := pinned(t, always(ok(`[{"upid":"`+u+`","node":"pve1","endtime":1795400000,"status":"startup failed","saved":"1"},`+
		`{"upid":"`+u+`","saved":0},{"upid":"x:y","endtime":1},{}]`)))
	tasks, err := h.ClusterTasks(t.Context(), alice)
	want := []Task{{UPID: testUPID, ExitStatus: "startup failed", End: time.Unix(1795400000, 0)}, {UPID: testUPID, Running: true}}
	if err != nil || !slices.Equal(tasks, want) {
		t.Errorf("%+v, %v", tasks, err)
	}
	h, _ = pinned(t, always(ok(`null`)))
	if tasks, err := h.ClusterTasks(t.Context(), alice); err != nil || len(tasks) != 0 {
		t.Errorf("none: %v, %v", tasks, err)
	}
}

func TestTaskStatusAndLog(t *testing.T) {
	for data, want := range map[string]Task{
		`{"status":"running","upid":"x","pid":"7"}`:                 {UPID: testUPID, Running: true},
		`{"status":"stopped","exitstatus":"WARNINGS: 2"}`:           {UPID: testUPID, ExitStatus: "WARNINGS: 2"},
		`{"status":"stopped","exitstatus":"startup for CT failed"}`: {UPID: testUPID, ExitStatus: "startup for CT failed"},
	} {
		h, _ := pinned(t, always(ok(data)))
		if got, err := h.TaskStatus(t.Context(), alice, testUPID); err != nil || got != want {
			t.Errorf("%s: %+v, %v", data, got, err)
		}
	}
	h, _ := pinned(t, always(ok(`{"status":"odd"}`)))
	_, err := h.TaskStatus(t.Context(), alice, testUPID)
	wantKind(t, err, KindNotProxmox)
	if _, err := h.TaskStatus(t.Context(), alice, UPID{}); err == nil {
		t.Error("no task has a status")
	}

	h, _ = pinned(t, always(reply("200 OK", `{"total":2,"data":[{"n":1,"t":"starting"},{"n":"2","t":"TASK OK"}]}`)))
	lines, total, err := h.TaskLog(t.Context(), alice, testUPID, 0, 50)
	if err != nil || total != 2 || len(lines) != 2 || lines[1] != (LogLine{2, "TASK OK"}) {
		t.Errorf("%v, %d, %v", lines, total, err)
	}
	h, _ = pinned(t, always(reply("200 OK", `{"total":1,"data":[{"n":1,"t":"no content"}]}`)))
	if lines, total, err := h.TaskLog(t.Context(), alice, testUPID, 0, 50); err != nil || total != 0 || len(lines) != 0 {
		t.Errorf("of an empty log: %v, %d, %v", lines, total, err)
	}
	for _, bad := range [][2]int{{-1, 50}, {0, 0}, {0, -1}} {
		if _, _, err := h.TaskLog(t.Context(), alice, testUPID, bad[0], bad[1]); err == nil {
			t.Errorf("lines %v were asked for", bad)
		}
	}
}

// TestTaskAnswers: whatever isn't a UPID isn't a task that began.
func TestTaskAnswers(t *testing.T) {
	for _, data := range []string{`null`, `""`, `"ok"`, `7`, `{}`, `["` + testUPID.String() + `"]`} {
		h, _ := pinned(t, always(ok(data)))
		_, err := h.Change(t.Context(), alice, "pve1", 101, ActionStart, ChangeOptions{})
		wantKind(t, err, KindNotProxmox)
	}
}

func FuzzUPID(f *testing.F) {
	f.Add(testUPID.String())
	f.Add("UPID:pve1:00000001:00000001:00000001:aptupdate::root@pam:")
	f.Add("UPID:::::::::")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseUPID(s)
		if err != nil {
			return
		}
		if again, err := ParseUPID(u.String()); err != nil || again != u || u.String() != s {
			t.Fatalf("%q reads back as %q, %v", s, again, err)
		}
		if strings.ContainsAny(s, "/ \r\n") || u.Node == "" || u.User == "" {
			t.Fatalf("ParseUPID(%q) = %+v", s, u)
		}
	})
}
