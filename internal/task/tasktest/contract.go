// Package tasktest owns the contract that every task.Store must keep, as a suite of tests that each store runs against the
// real thing.
package tasktest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/task"
)

// most is how many operations an identity may have under way where that does not matter.
const most = 1000

var (
	begin = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)
	until = begin.Add(30 * time.Second)
	alice = session.Identity{Datacenter: "dc1", UserID: "alice@pve"}
	bob   = session.Identity{Datacenter: "dc2", UserID: "bob@pve"}
)

// Contract runs the suite. make returns an empty store each time it is called.
func Contract(t *testing.T, make func(t *testing.T) task.Store) {
	ctx := context.Background()
	upid := func(n int) pve.UPID {
		u, err := pve.ParseUPID(fmt.Sprintf("UPID:pve1:%08X:00001000:66E00000:vzstart:101:alice@pve:", n))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	operation := func(id string) task.Operation {
		return task.Operation{
			ID: id, NodeID: "n", Node: "pve1", VMID: 101, Name: "nextcloud", Action: task.Start, State: task.Sending, Created: begin,
			Owner: alice, Cluster: "c",
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	start := func(t *testing.T, s task.Store, op task.Operation) {
		t.Helper()
		must(t, s.Begin(ctx, op, begin, until, most))
	}
	end := func(t *testing.T, s task.Store, id string, e task.Ending) {
		t.Helper()
		if e.At.IsZero() {
			e.At = begin
		}
		if first, err := s.EndOperation(ctx, id, e); err != nil || !first {
			t.Fatalf("end of %s: %v, %v", id, first, err)
		}
	}
	find := func(t *testing.T, s task.Store, id string) task.Operation {
		t.Helper()
		op, err := s.Operation(ctx, alice, id)
		must(t, err)
		return op
	}
	ids := func(ops []task.Operation, err error) []string {
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, op := range ops {
			list = append(list, op.ID)
		}
		return list
	}

	t.Run("an operation comes back as it was stored", func(t *testing.T) {
		s := make(t)
		want := operation("a")
		start(t, s, want)
		must(t, s.NoteAfter(ctx, "a", upid(1)))
		must(t, s.Accept(ctx, "a", upid(2)))
		want.State, want.After, want.UPID = task.Running, upid(1), upid(2)
		if got := find(t, s, "a"); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		end(t, s, "a", task.Ending{State: task.Failed, Error: "no", At: until})
		want.State, want.Error, want.End = task.Failed, "no", until
		if got := find(t, s, "a"); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if _, err := s.Operation(ctx, bob, "a"); !errors.Is(err, task.ErrNone) {
			t.Errorf("somebody else's: %v", err)
		}
		if err := s.Accept(ctx, "a", upid(3)); !errors.Is(err, task.ErrNone) {
			t.Errorf("accepted after its end: %v", err)
		}
		if first, err := s.EndOperation(ctx, "a", task.Ending{State: task.Done, At: until}); first || err != nil || find(t, s, "a").State != task.Failed {
			t.Errorf("ended twice: %v, %v", first, err)
		}
	})

	t.Run("a task that was not stored is stored with the end", func(t *testing.T) {
		s := make(t)
		start(t, s, operation("a"))
		end(t, s, "a", task.Ending{State: task.Done, UPID: upid(2)})
		if got := find(t, s, "a"); got.UPID != upid(2) {
			t.Errorf("%+v", got)
		}
		start(t, s, operation("b"))
		must(t, s.Accept(ctx, "b", upid(3)))
		end(t, s, "b", task.Ending{State: task.Failed})
		if got := find(t, s, "b"); got.UPID != upid(3) {
			t.Errorf("%+v", got)
		}
	})

	t.Run("what the others on a container have become", func(t *testing.T) {
		s := make(t)
		others := func(id string, created time.Time, now time.Time) (tasks []pve.UPID, contended bool) {
			t.Helper()
			of := operation(id)
			of.Created = created
			tasks, contended, err := s.Others(ctx, of, now)
			must(t, err)
			return tasks, contended
		}
		later := begin.Add(time.Minute)
		start(t, s, operation("b"))
		if tasks, contended := others("b", begin, begin); len(tasks) > 0 || contended {
			t.Errorf("alone: %v, %v", tasks, contended)
		}
		// An earlier one that is still being sent has the last word while it holds the lock.
		for _, test := range []struct {
			created, now time.Time
			want         bool
		}{{begin.Add(-1), begin, true}, {later, begin, true}, {later, until, false}, {begin.Add(-time.Second), until, true}} {
			if _, contended := others("c", test.created, test.now); contended != test.want {
				t.Errorf("created at %s, now %s: contended %v", test.created, test.now, contended)
			}
		}
		elsewhere := operation("d")
		elsewhere.VMID = 102
		start(t, s, elsewhere)
		must(t, s.Accept(ctx, "d", upid(3)))
		must(t, s.Accept(ctx, "b", upid(2)))
		for range 2 {
			if tasks, contended := others("c", begin.Add(-time.Second), begin); !slices.Equal(tasks, []pve.UPID{upid(2)}) || contended {
				t.Errorf("running, then ended: %v, %v", tasks, contended)
			}
			_, err := s.EndOperation(ctx, "b", task.Ending{State: task.Done, At: begin})
			must(t, err)
		}
	})

	t.Run("one operation at a time has a container", func(t *testing.T) {
		s := make(t)
		start(t, s, operation("a"))
		other := operation("b")
		other.Owner = bob
		var busy *task.BusyError
		if err := s.Begin(ctx, other, begin.Add(29*time.Second), until, most); !errors.As(err, &busy) || busy.Holder.ID != "a" || busy.Holder.Owner != alice {
			t.Fatalf("a second one: %v", err)
		}
		if _, err := s.Operation(ctx, bob, "b"); !errors.Is(err, task.ErrNone) {
			t.Errorf("what was refused is stored: %v", err)
		}
		for name, change := range map[string]func(*task.Operation){
			"container": func(op *task.Operation) { op.VMID = 102 }, "cluster": func(op *task.Operation) { op.Cluster = "d" },
		} {
			free := operation("free " + name)
			change(&free)
			if err := s.Begin(ctx, free, begin, until, most); err != nil {
				t.Errorf("another %s: %v", name, err)
			}
		}
		end(t, s, "a", task.Ending{State: task.Done})
		must(t, s.Begin(ctx, other, begin, until, most))
	})

	t.Run("an operation of a run has the lock of the cluster that it begins in", func(t *testing.T) {
		s := make(t)
		waiting := operation("a")
		waiting.State, waiting.BulkID, waiting.Cluster, waiting.Node, waiting.Name = task.Waiting, "r", "", "", ""
		must(t, s.CreateRun(ctx, task.Run{ID: "r", Owner: alice, Action: task.Start, Created: begin}, []task.Operation{waiting}, 3))
		begun := operation("a")
		begun.BulkID = "r"
		start(t, s, begun)
		if got := find(t, s, "a"); got.Cluster != "c" || got.Node != "pve1" || got.Name != "nextcloud" {
			t.Errorf("what was learnt when it began is not stored: %+v", got)
		}
		other := operation("b")
		other.Owner = bob
		var busy *task.BusyError
		if err := s.Begin(ctx, other, begin, until, most); !errors.As(err, &busy) || busy.Holder.ID != "a" {
			t.Errorf("another one of the same container: %v", err)
		}
		other.Cluster = "d"
		if err := s.Begin(ctx, other, begin, until, most); err != nil {
			t.Errorf("the same VMID of another cluster: %v", err)
		}
	})

	t.Run("a lease runs out", func(t *testing.T) {
		s := make(t)
		start(t, s, operation("a"))
		must(t, s.Begin(ctx, operation("b"), until, until.Add(time.Minute), most))
		if held, err := s.Hold(ctx, operation("a"), until, until.Add(time.Hour)); held || err != nil {
			t.Errorf("taken back from another: %v, %v", held, err)
		}
		if held, err := s.Hold(ctx, operation("b"), until, until.Add(time.Hour)); !held || err != nil {
			t.Errorf("renewed: %v, %v", held, err)
		}
		var busy *task.BusyError
		if err := s.Begin(ctx, operation("c"), until.Add(59*time.Minute), until.Add(2*time.Hour), most); !errors.As(err, &busy) || busy.Holder.ID != "b" {
			t.Errorf("while it is held: %v", err)
		}
		// The end of an operation that lost its lock takes nobody else's.
		end(t, s, "a", task.Ending{State: task.Done})
		if err := s.Begin(ctx, operation("d"), until, until.Add(time.Hour), most); !errors.As(err, &busy) {
			t.Errorf("the lock went with another's end: %v", err)
		}
		end(t, s, "b", task.Ending{State: task.Done})
		if held, err := s.Hold(ctx, operation("b"), until, until.Add(time.Hour)); held || err != nil {
			t.Errorf("held after its end: %v, %v", held, err)
		}
		start(t, s, operation("e"))
		must(t, s.Forget(ctx, begin.Add(-time.Hour), until, 100))
		if held, err := s.Hold(ctx, operation("e"), until, until.Add(time.Hour)); !held || err != nil {
			t.Errorf("not taken up again: %v, %v", held, err)
		}
	})

	t.Run("of many that begin at once one does", func(t *testing.T) {
		s := make(t)
		var wait sync.WaitGroup
		var mu sync.Mutex
		begun, refused := 0, 0
		for i := range 16 {
			wait.Go(func() {
				err := s.Begin(ctx, operation(fmt.Sprint("op", i)), begin, until, most)
				var busy *task.BusyError
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					begun++
				case errors.As(err, &busy):
					refused++
				default:
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if begun != 1 || refused != 15 {
			t.Errorf("%d began and %d were refused", begun, refused)
		}
	})

	t.Run("what nobody follows is found", func(t *testing.T) {
		s := make(t)
		for i, id := range []string{"a", "b", "c", "d"} {
			op := operation(id)
			op.VMID += i
			op.Created = begin.Add(time.Duration(i) * time.Second)
			if id == "d" {
				op.Owner = bob
			}
			start(t, s, op)
		}
		must(t, s.Accept(ctx, "b", upid(1)))
		end(t, s, "c", task.Ending{State: task.Done})
		if got := ids(s.Abandoned(ctx, alice, until.Add(-time.Millisecond), 10)); got != nil {
			t.Errorf("%v while their leases hold", got)
		}
		if got := ids(s.Abandoned(ctx, alice, until, 10)); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%v", got)
		}
		if got := ids(s.Abandoned(ctx, alice, until, 1)); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%v of one", got)
		}
		got := ids(s.Lost(ctx, begin.Add(time.Hour), until, 10))
		if slices.Sort(got); !slices.Equal(got, []string{"a", "b", "d"}) {
			t.Errorf("lost: %v", got)
		}
		if got := ids(s.Lost(ctx, begin, until, 10)); got != nil {
			t.Errorf("lost although new: %v", got)
		}
	})

	t.Run("notices", func(t *testing.T) {
		s := make(t)
		for i, state := range []task.State{task.Failed, task.Unknown, task.Done, task.Canceled, task.Failed, task.Failed} {
			op := operation(fmt.Sprint("op", i))
			if i == 5 {
				op.Owner = bob
			}
			start(t, s, op)
			end(t, s, op.ID, task.Ending{State: state, At: begin.Add(time.Duration(i) * time.Second), Seen: i == 4})
		}
		if got := ids(s.Unseen(ctx, alice, 10)); !slices.Equal(got, []string{"op1", "op0"}) {
			t.Errorf("%v", got)
		}
		if n, err := s.MarkSeen(ctx, alice, "op5"); n != 0 || err != nil {
			t.Errorf("somebody else's: %d, %v", n, err)
		}
		if n, err := s.MarkSeen(ctx, alice, "op1"); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if got := ids(s.Unseen(ctx, alice, 10)); !slices.Equal(got, []string{"op0"}) {
			t.Errorf("%v after one was seen", got)
		}
		if _, err := s.MarkSeen(ctx, alice, ""); err != nil || ids(s.Unseen(ctx, alice, 10)) != nil {
			t.Errorf("not all were seen: %v", err)
		}
		if got := ids(s.Unseen(ctx, bob, 10)); !slices.Equal(got, []string{"op5"}) {
			t.Errorf("bob's: %v", got)
		}
	})

	t.Run("a run", func(t *testing.T) {
		s := make(t)
		run := task.Run{ID: "r", Action: task.Start, Created: begin, Driven: until, Owner: alice}
		var want []task.Operation
		for i := range 5 {
			op := operation(fmt.Sprint("op", 9-i))
			op.VMID, op.BulkID, op.State = 100+i, "r", task.Waiting
			if i == 4 {
				op.State, op.Error, op.End = task.Failed, "none", begin
			}
			want = append(want, op)
		}
		must(t, s.CreateRun(ctx, run, want, 3))
		gotRun, got, err := s.Run(ctx, alice, "r")
		if err != nil || gotRun != run || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v %+v, %v", gotRun, got, err)
		}
		if _, _, err := s.Run(ctx, bob, "r"); !errors.Is(err, task.ErrNone) {
			t.Errorf("somebody else's: %v", err)
		}
		start(t, s, want[0])
		must(t, s.Accept(ctx, want[0].ID, upid(1)))
		if err := s.Begin(ctx, want[0], begin, until, most); !errors.Is(err, task.ErrNone) {
			t.Errorf("begun twice: %v", err)
		}
		abandoned := func(at time.Time) []string {
			runs, err := s.AbandonedRuns(ctx, alice, at)
			must(t, err)
			return runs
		}
		must(t, s.DriveRun(ctx, "r", until.Add(time.Minute)))
		if got := abandoned(until.Add(59 * time.Second)); got != nil {
			t.Errorf("abandoned while it is worked on: %v", got)
		}
		if got := abandoned(until.Add(time.Minute)); !slices.Equal(got, []string{"r"}) {
			t.Errorf("abandoned: %v", got)
		}
		if n, err := s.CancelWaiting(ctx, bob, "r", "no", begin); n != 0 || err != nil {
			t.Errorf("canceled by somebody else: %d, %v", n, err)
		}
		if n, err := s.CancelWaiting(ctx, alice, "r", "enough", until); n != 3 || err != nil {
			t.Errorf("canceled %d, %v", n, err)
		}
		if err := s.Begin(ctx, want[1], begin, until, most); !errors.Is(err, task.ErrNone) {
			t.Errorf("begun after it was canceled: %v", err)
		}
		after := operation("after")
		after.VMID = want[1].VMID
		if err := s.Begin(ctx, after, begin, until, most); err != nil {
			t.Errorf("what was canceled has the lock: %v", err)
		}
		end(t, s, "after", task.Ending{State: task.Done})
		if got := abandoned(until.Add(time.Hour)); got != nil {
			t.Errorf("abandoned with nothing left to do: %v", got)
		}
		end(t, s, want[0].ID, task.Ending{State: task.Done})
		_, got, err = s.Run(ctx, alice, "r")
		must(t, err)
		var states []task.State
		for _, op := range got {
			states = append(states, op.State)
		}
		if !slices.Equal(states, []task.State{task.Done, task.Canceled, task.Canceled, task.Canceled, task.Failed}) || got[1].Error != "enough" || !got[1].End.Equal(until) {
			t.Errorf("%v %+v", states, got[1])
		}
		if got := ids(s.Unseen(ctx, alice, 10)); !slices.Equal(got, []string{"op5"}) {
			t.Errorf("unseen: %v", got)
		}
		if _, err := s.MarkSeen(ctx, alice, "r"); err != nil || ids(s.Unseen(ctx, alice, 10)) != nil {
			t.Errorf("the run was not seen: %v", err)
		}
		must(t, s.Forget(ctx, begin.Add(time.Hour), begin, 100))
		if _, _, err := s.Run(ctx, alice, "r"); !errors.Is(err, task.ErrNone) {
			t.Errorf("not forgotten: %v", err)
		}
	})

	t.Run("what is under way is bounded", func(t *testing.T) {
		s := make(t)
		var wait sync.WaitGroup
		var mu sync.Mutex
		begun, runs := 0, 0
		count := func(n *int, err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				*n++
			case !errors.Is(err, task.ErrTooMany):
				t.Error(err)
			}
		}
		for i := range 12 {
			op := operation(fmt.Sprint("op", i))
			op.VMID += i
			part := operation(fmt.Sprint("part", i))
			part.VMID, part.State, part.BulkID = 200+i, task.Waiting, fmt.Sprint("r", i)
			wait.Go(func() { count(&begun, s.Begin(ctx, op, begin, until, 4)) })
			wait.Go(func() {
				count(&runs, s.CreateRun(ctx, task.Run{ID: part.BulkID, Action: task.Start, Created: begin, Driven: until, Owner: alice}, []task.Operation{part}, 3))
			})
		}
		wait.Wait()
		if begun != 4 || runs != 3 {
			t.Errorf("%d operations and %d runs, want 4 and 3", begun, runs)
		}
		other := operation("bob's")
		other.VMID, other.Owner = 300, bob
		must(t, s.Begin(ctx, other, begin, until, 1))
		must(t, s.CreateRun(ctx, task.Run{ID: "bob's", Action: task.Start, Created: begin, Driven: until, Owner: bob}, nil, 1))
		// Those of runs do not count, nor what has ended.
		for i := range 12 {
			id := fmt.Sprint("r", i)
			if _, ops, err := s.Run(ctx, alice, id); err == nil {
				must(t, s.Begin(ctx, ops[0], begin, until, 4))
				end(t, s, ops[0].ID, task.Ending{State: task.Done})
			}
			if _, err := s.Operation(ctx, alice, fmt.Sprint("op", i)); err == nil {
				end(t, s, fmt.Sprint("op", i), task.Ending{State: task.Done})
			}
		}
		must(t, s.Begin(ctx, operation("later"), begin, until, 1))
		must(t, s.CreateRun(ctx, task.Run{ID: "later", Action: task.Start, Created: begin, Driven: until, Owner: alice}, nil, 1))
	})

	t.Run("what is old is forgotten", func(t *testing.T) {
		s := make(t)
		for i := range 6 {
			op := operation(fmt.Sprint("op", i))
			op.VMID += i
			op.Created = begin.Add(time.Duration(i) * time.Hour)
			start(t, s, op)
			if i != 0 {
				end(t, s, op.ID, task.Ending{State: task.Done, At: op.Created})
			}
		}
		must(t, s.Forget(ctx, begin.Add(2*time.Hour), begin, 2))
		for i := range 6 {
			_, err := s.Operation(ctx, alice, fmt.Sprint("op", i))
			// The first has not ended, the second is old, and of the others the newest two are kept.
			if kept := i == 0 || i > 3; kept != (err == nil) {
				t.Errorf("op%d: %v", i, err)
			}
		}
	})
}
