package container

import (
	"encoding/json"
	"sync"
	"time"
)

// maxTold is how many rows a Change tells; who watches more than change at once fetches the list anew.
const maxTold = 100

// Change is what is different between two versions of what a caller sees. It is shared and never changed.
type Change struct {
	Version string `json:"version" doc:"of what the caller sees from now on"`
	// Rows are new or changed, Removed are gone.
	Rows    []*Container `json:"changed" doc:"containers that are new or have changed, at most 100"`
	Removed []Ref        `json:"removed" doc:"containers that are gone, at most 100"`
	More    bool         `json:"more,omitempty" doc:"there are others: fetch the list"`
	Counts  Counts       `json:"counts" doc:"of all the caller's containers"`
	Nodes   []Source     `json:"nodes,omitempty" doc:"all nodes, if one of them or its problem has changed"`

	// Tasks are those that have begun or ended; nil when none has.
	Tasks       *TaskChange `json:"-"`
	listChanged bool

	once    sync.Once
	encoded []byte
	failed  error
}

// TaskChange is what is different between the tasks of two versions.
type TaskChange struct {
	Version string     `json:"version" doc:"of what the caller sees from now on"`
	Tasks   []TaskLine `json:"changed" doc:"tasks that have begun or ended, newest first, at most 100"`
	Running int        `json:"running" doc:"how many tasks are at work"`
}

// TaskLine is a task in few words.
type TaskLine struct {
	NodeID  string    `json:"nodeId"`
	UPID    string    `json:"upid"`
	Type    string    `json:"type" example:"vzstart"`
	ID      string    `json:"id" doc:"what it works on, a VMID mostly" example:"101"`
	User    string    `json:"user" example:"root@pam"`
	Started time.Time `json:"started"`
	Running bool      `json:"running"`
	Ended   time.Time `json:"ended,omitzero"`
	Status  string    `json:"status,omitempty" doc:"how it ended: OK, WARNINGS with their number, or an error" example:"OK"`
}

// line is the task in few words.
func (t NodeTask) line() TaskLine {
	return TaskLine{
		NodeID: t.NodeID, UPID: t.UPID.String(), Type: t.UPID.Type, ID: t.UPID.ID, User: t.UPID.User,
		Started: t.UPID.Start, Running: t.Running, Ended: t.End, Status: t.ExitStatus,
	}
}

// ListChanged tells whether containers, or nodes with their problems, have changed.
func (c *Change) ListChanged() bool { return c.listChanged }

// JSON is the change without the tasks, encoded once for all who are told of it.
func (c *Change) JSON() ([]byte, error) {
	c.once.Do(func() { c.encoded, c.failed = json.Marshal(c) })
	return c.encoded, c.failed
}

// Change tells what has changed since it was called last, or since the watch began; nil if nothing has.
func (w *Watch) Change() *Change {
	current := w.fleet.current.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	if current == nil || current.version == w.told.version {
		return nil
	}
	change := current.since(w.told)
	w.told = current
	return change
}

// maxSince bounds how many changes that lead to one snapshot are remembered: mostly all who watch come from the same one.
const maxSince = 4

// since is what has changed since an earlier snapshot.
func (s *snapshot) since(earlier *snapshot) *Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.changes[earlier.version]; c != nil {
		return c
	}
	if s.changes == nil || len(s.changes) >= maxSince {
		s.changes = map[string]*Change{}
	}
	c := s.compare(earlier)
	s.changes[earlier.version] = c
	return c
}

// compare walks along both lists of rows, which are in the same order.
func (s *snapshot) compare(earlier *snapshot) *Change {
	c := &Change{Version: s.version, Rows: []*Container{}, Removed: []Ref{}, Counts: s.counts}
	changed := func(row *Container) {
		c.listChanged = true
		if c.More = c.More || len(c.Rows) == maxTold; !c.More {
			c.Rows = append(c.Rows, row)
		}
	}
	removed := func(row *Container) {
		c.listChanged = true
		if c.More = c.More || len(c.Removed) == maxTold; !c.More {
			c.Removed = append(c.Removed, row.Ref())
		}
	}
	old := earlier.rows
	for _, row := range s.rows {
		for len(old) > 0 && byRef(old[0], row) < 0 {
			removed(old[0])
			old = old[1:]
		}
		if len(old) == 0 || byRef(old[0], row) > 0 {
			changed(row)
			continue
		}
		if old[0] != row && !old[0].equal(row) {
			changed(row)
		}
		old = old[1:]
	}
	for _, row := range old {
		removed(row)
	}
	if s.sourcesDiffer(earlier) {
		c.Nodes, c.listChanged = view{s, s.parts}.sources(), true
	}
	if s.tasksDiffer(earlier) {
		c.Tasks = s.compareTasks(earlier)
	}
	return c
}

func (s *snapshot) compareTasks(earlier *snapshot) *TaskChange {
	c := &TaskChange{Version: s.version, Tasks: []TaskLine{}}
	before := make(map[string]bool, len(earlier.tasks))
	for _, t := range earlier.tasks {
		before[t.UPID.String()] = t.Running
	}
	for _, t := range s.tasks {
		if t.Running {
			c.Running++
		}
		if ran, known := before[t.UPID.String()]; (!known || ran != t.Running) && len(c.Tasks) < maxTold {
			c.Tasks = append(c.Tasks, t.line())
		}
	}
	return c
}
