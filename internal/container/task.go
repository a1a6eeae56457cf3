package container

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// maxTasks and maxTaskText bound the tasks that are kept of one node: how many, and bytes of what is written in them.
	maxTasks    = 1000
	maxTaskText = 256 << 10
	// maxTouched bounds for how many guests their own word is asked after one reading of tasks, touchedAtOnce how many
	// are asked at the same time.
	maxTouched    = 32
	touchedAtOnce = 4
	// maxAskedMembers bounds how many members are asked for their own lists of tasks, tasksOfMember how many each tells.
	maxAskedMembers = 16
	tasksOfMember   = 50
)

// touched is a guest that a task has begun or ended to change.
type touched struct {
	member string
	vmid   int
}

// taskList is the list of tasks, those that run and those that ended last.
var taskList = subject{
	name:   TaskLists,
	reader: func(f *feed) *reader { return &f.tasks },
	read: func(ctx context.Context, s *Service, caller session.Caller, f *feed) (func(time.Time), error) {
		var tasks []pve.Task
		err := s.nodes.Call(ctx, caller, f.node, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
			tasks, err = host.ClusterTasks(ctx, with)
			if err == nil && len(tasks) == 0 && f.door.credential != node.BySession {
				tasks = memberTasks(ctx, host, with, f.members())
			}
			return err
		})
		return func(time.Time) { f.takeTasks(tasks) }, err
	},
}

// memberTasks asks each member for its tasks. An API token without Sys.Audit is told of none by the cluster's list, not even of
// its own, and by its member's list it is. Members that don't answer have none.
func memberTasks(ctx context.Context, host *pve.Host, with pve.Credentials, members []string) (tasks []pve.Task) {
	for _, member := range members {
		of, _, err := host.Tasks(ctx, with, member, pve.TaskFilter{Source: pve.AllTasks, Limit: tasksOfMember})
		if err != nil {
			slog.DebugContext(ctx, "tasks of a member not read", "member", member, "cause", err)
		}
		tasks = append(tasks, of[:min(len(of), tasksOfMember)]...) // whatever the host made of the limit
	}
	return tasks
}

// members are those that have guests, as far as they are asked for tasks.
func (f *feed) members() (members []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.base {
		if len(members) < maxAskedMembers && !slices.Contains(members, c.Node) {
			members = append(members, c.Node)
		}
	}
	return members
}

// takeTasks accepts a list of tasks.
func (f *feed) takeTasks(tasks []pve.Task) {
	slices.SortFunc(tasks, func(a, b pve.Task) int {
		return cmp.Or(b.UPID.Start.Compare(a.UPID.Start), strings.Compare(a.UPID.String(), b.UPID.String()))
	})
	tasks = slices.CompactFunc(tasks, func(a, b pve.Task) bool { return a.UPID == b.UPID })
	text := 0
	for i, t := range tasks {
		text += len(t.UPID.String()) + len(t.ExitStatus)
		if i == maxTasks || text > maxTaskText {
			tasks = tasks[:i]
			break
		}
	}
	tasks = slices.Clone(tasks) // of a long list only what is kept
	f.workWeight = len(tasks)*int(unsafe.Sizeof(pve.Task{})) + text
	if f.workRevision > 0 && slices.Equal(tasks, f.work) {
		return
	}
	f.touch(tasks)
	f.work = tasks
	f.workRevision++
	f.lay()
}

// touch notes the guests of tasks that have begun or ended since the list before.
func (f *feed) touch(tasks []pve.Task) {
	before := make(map[string]bool, len(f.work))
	for _, t := range f.work {
		before[t.UPID.String()] = t.Running
	}
	for _, t := range tasks {
		ran, known := before[t.UPID.String()]
		if known && ran == t.Running || f.workRevision == 0 && !t.Running {
			continue
		}
		guest, ok := changes(t)
		if ok && len(f.touched) < maxTouched && !slices.ContainsFunc(f.touched, func(o touched) bool { return o.vmid == guest }) {
			f.touched = append(f.touched, touched{member: t.UPID.Node, vmid: guest})
		}
	}
}

// changes tells which guest a task changes. Consoles and shells change none.
func changes(t pve.Task) (vmid int, ok bool) {
	if strings.HasSuffix(t.UPID.Type, "proxy") || strings.HasSuffix(t.UPID.Type, "shell") {
		return 0, false
	}
	vmid, err := strconv.Atoi(t.UPID.ID)
	return vmid, err == nil && vmid > 0
}

// lookInto asks the guests that tasks have changed how they are, and those that other replicas have named.
func (s *Service) lookInto(ctx context.Context, callers []session.Caller, f *feed) {
	guests, hinted, asked := f.takeGuests()
	if asked == nil {
		return
	}
	defer f.answered(asked)
	for _, guest := range guests {
		s.tellTouched(f.node, guest.vmid)
	}
	guests = append(guests, hinted...)
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	slots := make(chan struct{}, touchedAtOnce)
	var all sync.WaitGroup
	for _, guest := range guests {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			for _, caller := range callers {
				if ctx.Err() != nil || !signedOut(s.refresh(ctx, caller, f, guest.member, guest.vmid)) {
					return
				}
			}
		})
	}
	all.Wait()
}

// Tasks is the authenticated action that lists the running and the recent tasks of the caller's nodes, newest first, those
// of a cluster once. The slice must not be changed.
func (s *Service) Tasks(ctx context.Context, caller session.Caller) ([]NodeTask, error) {
	nodes, err := s.nodes.List(ctx, caller)
	if err != nil {
		return nil, err
	}
	who := audienceOf(caller)
	feeds := s.feedsOf(who, nodes)
	if err := s.read(ctx, caller, feeds, taskList); err != nil {
		return nil, err
	}
	seen := s.see(s.fleet(who, nodes), nodes, feeds)
	var failed error
	for _, f := range feeds {
		if f == nil {
			continue
		}
		f.mu.Lock()
		known, err := f.tasks.known, f.tasks.err
		f.mu.Unlock()
		if known {
			return seen.tasks, nil
		}
		failed = cmp.Or(failed, err)
	}
	return seen.tasks, failed
}
