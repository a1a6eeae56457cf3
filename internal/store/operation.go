package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/store/db"
	"berth/internal/task"
)

var _ task.Store = (*Store)(nil)

// Begin implements task.Store.
func (s *Store) Begin(ctx context.Context, op task.Operation, now, until time.Time, most int) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		if op.BulkID == "" {
			count, err := s.queries.UnfinishedOperations(ctx, tx, db.UnfinishedOperationsParams{DatacenterID: op.Owner.Datacenter, UserID: op.Owner.UserID})
			if err != nil {
				return err
			}
			if count >= int64(most) {
				return task.ErrTooMany
			}
		}
		n, err := s.queries.BeginOperation(ctx, tx, db.BeginOperationParams{
			ID: op.ID, DatacenterID: op.Owner.Datacenter, UserID: op.Owner.UserID, NodeID: op.NodeID, ClusterID: op.Cluster,
			Member: op.Node, Vmid: int64(op.VMID), Name: op.Name, Action: string(op.Action), CreatedAt: op.Created.UnixMilli(),
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return task.ErrNone
		}
		held, err := s.takeLock(ctx, tx, op, now, until)
		if err != nil || held {
			return err
		}
		holder, err := s.queries.LockHolder(ctx, tx, db.LockHolderParams{ClusterID: op.Cluster, Vmid: int64(op.VMID)})
		if errors.Is(err, sql.ErrNoRows) {
			return &task.BusyError{} // its operation was forgotten, and the lease is not over yet
		}
		if err != nil {
			return err
		}
		found, err := operation(holder)
		if err != nil {
			return err
		}
		return &task.BusyError{Holder: found}
	})
}

func (s *Store) takeLock(ctx context.Context, tx *sql.Tx, op task.Operation, now, until time.Time) (bool, error) {
	err := s.queries.RemoveLapsedLock(ctx, tx, db.RemoveLapsedLockParams{
		ClusterID: op.Cluster, Vmid: int64(op.VMID), Now: now.UnixMilli(), OperationID: op.ID,
	})
	if err != nil {
		return false, err
	}
	n, err := s.queries.TakeLock(ctx, tx, db.TakeLockParams{OperationID: op.ID, LeaseUntil: until.UnixMilli()})
	return n > 0, err
}

// Hold implements task.Store.
func (s *Store) Hold(ctx context.Context, op task.Operation, now, until time.Time) (held bool, err error) {
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		held, err = s.takeLock(ctx, tx, op, now, until)
		return err
	})
	return held, err
}

// NoteAfter implements task.Store.
func (s *Store) NoteAfter(ctx context.Context, id string, after pve.UPID) error {
	return s.queries.NoteAfter(ctx, s.writer, db.NoteAfterParams{ID: id, AfterUpid: after.String()})
}

// Accept implements task.Store.
func (s *Store) Accept(ctx context.Context, id string, upid pve.UPID) error {
	n, err := s.queries.AcceptOperation(ctx, s.writer, db.AcceptOperationParams{ID: id, Upid: upid.String()})
	if err == nil && n == 0 {
		return task.ErrNone
	}
	return err
}

// Others implements task.Store.
func (s *Store) Others(ctx context.Context, op task.Operation, now time.Time) (tasks []pve.UPID, contended bool, err error) {
	rows, err := s.queries.OtherOperations(ctx, s.reader, db.OtherOperationsParams{
		ID: op.ID, ClusterID: op.Cluster, Vmid: int64(op.VMID), CreatedAt: op.Created.UnixMilli(), Now: now.UnixMilli(),
	})
	for _, row := range rows {
		contended = contended || row.Contends != 0
		var upid pve.UPID
		err = errors.Join(err, upid.UnmarshalText([]byte(row.Upid)))
		if !upid.IsZero() {
			tasks = append(tasks, upid)
		}
	}
	return tasks, contended, err
}

// EndOperation implements task.Store.
func (s *Store) EndOperation(ctx context.Context, id string, e task.Ending) (first bool, err error) {
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		n, err := s.queries.EndOperation(ctx, tx, db.EndOperationParams{
			ID: id, State: string(e.State), Error: e.Error, EndedAt: sql.NullInt64{Int64: e.At.UnixMilli(), Valid: true}, Seen: e.Seen,
			Upid: e.UPID.String(),
		})
		if err != nil {
			return err
		}
		first = n > 0
		if first && e.Entry != nil {
			if err := s.addEntry(ctx, tx, *e.Entry); err != nil {
				return err
			}
		}
		return s.queries.ReleaseLock(ctx, tx, id)
	})
	return first, err
}

// Operation implements task.Store.
func (s *Store) Operation(ctx context.Context, of session.Identity, id string) (task.Operation, error) {
	row, err := s.queries.Operation(ctx, s.reader, db.OperationParams{ID: id, DatacenterID: of.Datacenter, UserID: of.UserID})
	if errors.Is(err, sql.ErrNoRows) {
		return task.Operation{}, task.ErrNone
	}
	if err != nil {
		return task.Operation{}, err
	}
	return operation(row)
}

// Abandoned implements task.Store.
func (s *Store) Abandoned(ctx context.Context, of session.Identity, now time.Time, most int) ([]task.Operation, error) {
	rows, err := s.queries.AbandonedOperations(ctx, s.reader, db.AbandonedOperationsParams{
		DatacenterID: of.Datacenter, UserID: of.UserID, Now: now.UnixMilli(), Most: int64(most),
	})
	return operations(rows, err)
}

// Unseen implements task.Store.
func (s *Store) Unseen(ctx context.Context, of session.Identity, most int) ([]task.Operation, error) {
	rows, err := s.queries.UnseenOperations(ctx, s.reader, db.UnseenOperationsParams{
		DatacenterID: of.Datacenter, UserID: of.UserID, Most: int64(most),
	})
	return operations(rows, err)
}

// MarkSeen implements task.Store.
func (s *Store) MarkSeen(ctx context.Context, of session.Identity, id string) (int64, error) {
	return s.queries.MarkSeen(ctx, s.writer, db.MarkSeenParams{DatacenterID: of.Datacenter, UserID: of.UserID, ID: id})
}

// CreateRun implements task.Store.
func (s *Store) CreateRun(ctx context.Context, r task.Run, ops []task.Operation, most int) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		count, err := s.queries.UnfinishedRuns(ctx, tx, db.UnfinishedRunsParams{DatacenterID: r.Owner.Datacenter, UserID: r.Owner.UserID})
		if err != nil {
			return err
		}
		if count >= int64(most) {
			return task.ErrTooMany
		}
		err = s.queries.CreateRun(ctx, tx, db.CreateRunParams{
			ID: r.ID, DatacenterID: r.Owner.Datacenter, UserID: r.Owner.UserID, Action: string(r.Action),
			CreatedAt: r.Created.UnixMilli(), DrivenUntil: r.Driven.UnixMilli(),
		})
		if err != nil {
			return err
		}
		for i, op := range ops {
			ended := sql.NullInt64{}
			if op.State.Ended() {
				ended = sql.NullInt64{Int64: op.End.UnixMilli(), Valid: true}
			}
			err := s.queries.AddOperation(ctx, tx, db.AddOperationParams{
				ID: op.ID, DatacenterID: op.Owner.Datacenter, UserID: op.Owner.UserID, NodeID: op.NodeID, ClusterID: op.Cluster,
				Member: op.Node, Vmid: int64(op.VMID), Name: op.Name, Action: string(op.Action),
				BulkID: sql.NullString{String: r.ID, Valid: true}, Place: int64(i), State: string(op.State), Error: op.Error,
				CreatedAt: op.Created.UnixMilli(), EndedAt: ended, Seen: op.Seen,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Run implements task.Store.
func (s *Store) Run(ctx context.Context, of session.Identity, id string) (task.Run, []task.Operation, error) {
	row, err := s.queries.Run(ctx, s.reader, db.RunParams{ID: id, DatacenterID: of.Datacenter, UserID: of.UserID})
	if errors.Is(err, sql.ErrNoRows) {
		return task.Run{}, nil, task.ErrNone
	}
	if err != nil {
		return task.Run{}, nil, err
	}
	ops, err := operations(s.queries.OperationsOfRun(ctx, s.reader, sql.NullString{String: id, Valid: true}))
	return task.Run{
		ID: row.ID, Action: task.Action(row.Action), Created: fromMillis(row.CreatedAt), Driven: fromMillis(row.DrivenUntil), Owner: of,
	}, ops, err
}

// DriveRun implements task.Store.
func (s *Store) DriveRun(ctx context.Context, id string, until time.Time) error {
	return s.queries.DriveRun(ctx, s.writer, db.DriveRunParams{ID: id, DrivenUntil: until.UnixMilli()})
}

// CancelWaiting implements task.Store.
func (s *Store) CancelWaiting(ctx context.Context, of session.Identity, run, why string, at time.Time) (int64, error) {
	return s.queries.CancelWaiting(ctx, s.writer, db.CancelWaitingParams{
		BulkID: sql.NullString{String: run, Valid: true}, DatacenterID: of.Datacenter, UserID: of.UserID, Error: why,
		EndedAt: sql.NullInt64{Int64: at.UnixMilli(), Valid: true},
	})
}

// AbandonedRuns implements task.Store.
func (s *Store) AbandonedRuns(ctx context.Context, of session.Identity, now time.Time) ([]string, error) {
	return s.queries.AbandonedRuns(ctx, s.reader, db.AbandonedRunsParams{DatacenterID: of.Datacenter, UserID: of.UserID, Now: now.UnixMilli()})
}

// Lost implements task.Store.
func (s *Store) Lost(ctx context.Context, before, now time.Time, most int) ([]task.Operation, error) {
	return operations(s.queries.LostOperations(ctx, s.reader, db.LostOperationsParams{
		Before: before.UnixMilli(), Now: now.UnixMilli(), Most: int64(most),
	}))
}

// Forget implements task.Store.
func (s *Store) Forget(ctx context.Context, before, now time.Time, kept int) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		return errors.Join(
			s.queries.RemoveLocksBefore(ctx, tx, now.UnixMilli()),
			s.queries.ForgetOperationsBefore(ctx, tx, sql.NullInt64{Int64: before.UnixMilli(), Valid: true}),
			s.queries.ForgetManyOperations(ctx, tx, int64(kept)),
			s.queries.ForgetRunsBefore(ctx, tx, before.UnixMilli()),
			s.queries.ForgetManyRuns(ctx, tx, int64(kept)),
		)
	})
}

func operations(rows []db.Operation, err error) ([]task.Operation, error) {
	if err != nil {
		return nil, err
	}
	found := make([]task.Operation, 0, len(rows))
	for _, row := range rows {
		op, err := operation(row)
		if err != nil {
			return nil, err
		}
		found = append(found, op)
	}
	return found, nil
}

func operation(row db.Operation) (task.Operation, error) {
	op := task.Operation{
		ID: row.ID, NodeID: row.NodeID, Node: row.Member, VMID: int(row.Vmid), Name: row.Name,
		Action: task.Action(row.Action), State: task.State(row.State), Error: row.Error, BulkID: row.BulkID.String,
		Created: fromMillis(row.CreatedAt), Owner: session.Identity{Datacenter: row.DatacenterID, UserID: row.UserID},
		Cluster: row.ClusterID, Seen: row.Seen,
	}
	if row.EndedAt.Valid {
		op.End = fromMillis(row.EndedAt.Int64)
	}
	return op, errors.Join(op.UPID.UnmarshalText([]byte(row.Upid)), op.After.UnmarshalText([]byte(row.AfterUpid)))
}
