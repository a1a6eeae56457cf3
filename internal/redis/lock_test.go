package redis_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/session"
	"berth/internal/task"
	"berth/internal/task/tasktest"
)

func TestTaskContract(t *testing.T) {
	server := redistest.Start(t)
	client := open(t, server.URL())
	tasktest.Contract(t, func(t *testing.T) task.Store {
		server.Do(t, "FLUSHALL")
		return redis.Operations{Store: openStore(t), Client: client}
	})
}

// A lock counts as long as both Redis and the database say so, and is given back in both.
func TestLocksAreFenced(t *testing.T) {
	server := redistest.Start(t)
	db := openStore(t)
	locks := redis.Operations{Store: db, Client: open(t, server.URL())}
	operation := func(id string) task.Operation {
		return task.Operation{
			ID: id, NodeID: "n", Node: "pve1", VMID: 101, Name: "nextcloud", Action: task.Start, State: task.Sending, Created: begin,
			Owner: session.Identity{Datacenter: "dc", UserID: "alice@pve"}, Cluster: "c",
		}
	}
	now, until := begin, begin.Add(30*time.Second)
	var busy *task.BusyError
	if err := locks.Begin(t.Context(), operation("a"), now, until, 10); err != nil {
		t.Fatal(err)
	}
	// What the database forgot, Redis still knows.
	if _, err := db.EndOperation(t.Context(), "a", task.Ending{State: task.Done, At: now}); err != nil {
		t.Fatal(err)
	}
	if err := locks.Begin(t.Context(), operation("b"), now, until, 10); !errors.As(err, &busy) || busy.Holder.ID != "a" {
		t.Errorf("while Redis has the lock: %v", err)
	}
	// What Redis forgot, the database still knows; and who is refused leaves no lock in Redis.
	server.Do(t, "FLUSHALL")
	if err := locks.Begin(t.Context(), operation("c"), now, until, 10); err != nil {
		t.Fatal(err)
	}
	server.Do(t, "FLUSHALL")
	if err := locks.Begin(t.Context(), operation("d"), now, until, 10); !errors.As(err, &busy) || busy.Holder.ID != "c" {
		t.Errorf("while the database has the lock: %v", err)
	}
	if held, err := locks.Hold(t.Context(), operation("c"), now, until); !held || err != nil {
		t.Errorf("the holder: %t, %v", held, err)
	}
	if first, err := locks.EndOperation(t.Context(), "c", task.Ending{State: task.Done, At: now}); !first || err != nil {
		t.Fatal(first, err)
	}
	if err := locks.Begin(t.Context(), operation("e"), now, until, 10); err != nil {
		t.Errorf("after the end: %v", err)
	}
	// Without Redis nothing begins, and nothing is held.
	server.Kill(t)
	if err := locks.Begin(t.Context(), operation("f"), until, until.Add(time.Minute), 10); err == nil {
		t.Error("begun without Redis")
	}
	if held, err := locks.Hold(t.Context(), operation("e"), now, until); held || err == nil {
		t.Errorf("held without Redis: %t, %v", held, err)
	}
}

// lateStore stores what begins when it is let.
type lateStore struct {
	task.Store
	begun, goOn chan struct{}
}

func (l lateStore) Begin(ctx context.Context, op task.Operation, now, until time.Time, most int) error {
	close(l.begun)
	<-l.goOn
	return l.Store.Begin(ctx, op, now, until, most)
}

// Whoever comes between an operation's lock in Redis and its row in the database is told whose it is all the same.
func TestHolderIsKnownBeforeItIsStored(t *testing.T) {
	server := redistest.Start(t)
	db, client := openStore(t), open(t, server.URL())
	late := lateStore{db, make(chan struct{}), make(chan struct{})}
	operation := func(id, user string, action task.Action) task.Operation {
		return task.Operation{
			ID: id, NodeID: "n", Node: "pve1", VMID: 101, Name: "nextcloud", Action: action, State: task.Sending, Created: begin,
			Owner: session.Identity{Datacenter: "dc", UserID: user}, Cluster: "c",
		}
	}
	first := operation("a", "alice@pve", task.Shutdown)
	done := make(chan error, 1)
	go func() {
		done <- redis.Operations{Store: late, Client: client}.Begin(t.Context(), first, begin, begin.Add(time.Minute), 10)
	}()
	<-late.begun
	var busy *task.BusyError
	err := redis.Operations{Store: db, Client: client}.Begin(t.Context(), operation("b", "bob@pve", task.Start), begin, begin.Add(time.Minute), 10)
	if !errors.As(err, &busy) || busy.Holder.ID != "a" || busy.Holder.Owner != first.Owner || busy.Holder.Action != task.Shutdown || !busy.Holder.Created.Equal(begin) {
		t.Errorf("%v: %+v", err, busy)
	}
	close(late.goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
