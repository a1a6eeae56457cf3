package app

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/replicatest"
)

// upid is the i-th task id of a host.
func upid(i int) string {
	return fmt.Sprintf("UPID:pve1:%08X:%08X:%08X:vzstart:%d:root@pam:", i, i, 0x60000000+i, 100+i%900)
}

// hostileTasks are lists of tasks that hosts send to those who watch.
var hostileTasks = map[string]http.HandlerFunc{
	"a million tasks": times(`{"data":[`, 1_000_000, func(i int) string { return `{"upid":"` + upid(i) + `"}` }, `]}`),
	"long errors": times(`{"data":[`, 8000, func(i int) string {
		return `{"upid":"` + upid(i) + `","endtime":1700000000,"status":"` + strings.Repeat("&", 900) + `"}`
	}, `]}`),
	"all of them run": times(`{"data":[`, 9000, func(i int) string { return `{"upid":"` + upid(i) + `"}` }, `]}`),
	"endless text":    hostileAnswers["endless text"],
	"silence":         hostileAnswers["silence"],
}

// TestAbuseHostileTasks: whatever a host says of its tasks to who watches costs little memory, keeps few connections busy,
// and the containers show all the same.
func TestAbuseHostileTasks(t *testing.T) {
	b := newHostileBench(t, time.Second, time.Second)
	ca := newAuthority(t)
	for name, tasks := range hostileTasks {
		t.Run(name, func(t *testing.T) {
			b.forget()
			loopback := forLoopback
			var asked, status atomic.Int64
			list := times(`{"data":[`, 1000, guest, `]}`)
			h := newHostile(t, ca.issue(t, &loopback), plausible(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/cluster/tasks"):
					asked.Add(1)
					tasks(w, r)
				case strings.HasSuffix(r.URL.Path, "/status/current"):
					status.Add(1)
					w.WriteHeader(http.StatusInternalServerError)
				default:
					list(w, r)
				}
			}))
			browser := b.browser(t)
			in := typed("127.0.0.1", h.port())
			in["username"], in["fingerprint"] = "root@pam", h.fingerprint()
			if r := browser.json("/api/auth/login", in); r.StatusCode != http.StatusOK {
				t.Fatal(r.StatusCode, r.body)
			}
			grew := growth(func() {
				s := browser.stream("")
				defer s.close()
				for deadline := time.Now().Add(30 * time.Second); asked.Load() < 2 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				}
				if page, _ := browser.glance("/api/containers"); page != http.StatusOK {
					t.Errorf("list %d", page)
				}
			})
			if asked.Load() < 2 {
				t.Errorf("the tasks were asked for %d times", asked.Load())
			}
			// Guests that tasks seem to change are asked how they are, a bounded number of them at a time.
			if status.Load() > 200 {
				t.Errorf("%d containers were asked how they are", status.Load())
			}
			t.Logf("the heap grew by %.1f MiB, %d containers were asked", float64(grew)/(1<<20), status.Load())
			// The bound is one program's: two replicas in one process take twice as much.
			if grew > maxGrowth && !raced && !replicatest.Wanted() {
				t.Errorf("the heap grew by %d bytes", grew)
			}
		})
	}
}
