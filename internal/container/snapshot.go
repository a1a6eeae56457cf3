package container

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/internal/node"
	"berth/internal/pve"
)

// snapshot is everything that an audience sees at one moment, shared by all who look. It is never changed, but for what
// is derived from it when somebody asks.
type snapshot struct {
	version string
	parts   []part
	rows    []*Container // by node id, then VMID
	counts  Counts       // of the containers
	tasks   []NodeTask   // newest first
	// groupOf is the node that names the containers of a node's group.
	groupOf map[string]string
	hosts   map[string]string // for searching, by the node that names the group

	mu     sync.Mutex
	orders map[string][]*Container
	tags   []string // nil until somebody asks
	// changes are those that led here, by the version before.
	changes map[string]*Change
}

// NodeTask is a task of Proxmox VE's, with the node that it was read through.
type NodeTask struct {
	NodeID string
	pve.Task
}

// maxOrders bounds how many orders of a snapshot are remembered.
const maxOrders = 4

// part is one node's share of a snapshot.
type part struct {
	node                   node.Node
	feed                   *feed
	revision, workRevision uint64
	rows                   []*Container
	work                   []pve.Task
	at                     time.Time // zero if nothing was ever read
	trouble                trouble
}

// part is the feed's share at the moment; of no feed, that of a node that does not serve the audience.
func (f *feed) part(n node.Node) part {
	if f == nil {
		return part{node: n, trouble: troubleOf(node.ErrSignInNeeded)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := part{node: n, feed: f, revision: f.revision, workRevision: f.workRevision, rows: f.rows, work: f.work, at: f.at, trouble: troubleOf(f.guests.err)}
	if f.at.IsZero() && f.guests.err == nil {
		p.trouble = pending
	}
	return p
}

// same tells whether two parts lead to the same snapshot.
func (p *part) same(o *part) bool {
	return p.feed == o.feed && p.revision == o.revision && p.workRevision == o.workRevision && p.sameSource(o)
}

func (p *part) sameSource(o *part) bool {
	return p.node.ID == o.node.ID && p.node.Name == o.node.Name && p.node.Address == o.node.Address && p.node.Group == o.node.Group && p.trouble == o.trouble
}

// failure is why the last reading failed.
func (p *part) failure() error {
	if p.feed == nil {
		return node.ErrSignInNeeded
	}
	p.feed.mu.Lock()
	defer p.feed.mu.Unlock()
	return p.feed.guests.err
}

func (p *part) source() Source {
	return Source{
		NodeID: p.node.ID, Name: p.node.Name, Host: p.node.Address.Host, Port: p.node.Address.Port, ReadAt: p.at, Group: cmp.Or(p.node.Group, p.node.ID),
		Problem: p.trouble.text, Code: p.trouble.code, WayOut: p.trouble.wayOut,
	}
}

// view is a snapshot with the parts as they are now: they were read since, perhaps, and showed the same.
type view struct {
	*snapshot
	now []part
}

func (v view) sources() []Source {
	sources := make([]Source, len(v.now))
	for i := range v.now {
		p := &v.now[i]
		sources[i] = p.source()
		sources[i].Listed = v.groupOf[p.node.ID]
		if p.trouble.code == "" || p.node.Group == "" {
			continue
		}
		for j := range v.now {
			if other := &v.now[j]; other.node.Group == p.node.Group && other.trouble.code == "" {
				sources[i].Through = other.node.Name
				break
			}
		}
	}
	return sources
}

// newSnapshot makes a snapshot of nodes in their order, after an earlier one; nil if there is none. Its version is the
// earlier one's if nothing shown has changed, else next's.
func newSnapshot(parts []part, earlier *snapshot, next func() string) *snapshot {
	s := &snapshot{parts: parts, groupOf: map[string]string{}, hosts: map[string]string{}}
	groups := map[string][]*part{}
	for i := range parts {
		p := &parts[i]
		group := cmp.Or(p.node.Group, p.node.ID)
		groups[group] = append(groups[group], p)
		first := groups[group][0].node.ID
		s.groupOf[p.node.ID] = first
		s.hosts[first] += strings.ToLower(p.node.Name) + "\n" + strings.ToLower(p.node.Address.String()) + "\n"
	}
	named := make([][]*part, 0, len(groups))
	size := 0
	for _, doors := range groups {
		named = append(named, doors)
		size += len(doors[0].rows)
	}
	slices.SortFunc(named, func(a, b []*part) int { return cmp.Compare(a[0].node.ID, b[0].node.ID) })
	s.rows = make([]*Container, 0, size)
	for _, doors := range named {
		through := working(doors)
		s.rows = append(s.rows, through.named(doors[0].node.ID)...)
		for _, t := range through.work {
			s.tasks = append(s.tasks, NodeTask{doors[0].node.ID, t})
		}
	}
	slices.SortStableFunc(s.tasks, func(a, b NodeTask) int { return b.UPID.Start.Compare(a.UPID.Start) })
	s.counts = count(s.rows, LXC)
	if earlier == nil {
		s.version = next()
		return s
	}
	s.share(earlier)
	if s.version = earlier.version; s.differs(earlier) {
		s.version = next()
	}
	return s
}

// working is the door that a group's containers are read through: the first that works, or the one that did last.
func working(doors []*part) *part {
	best := doors[0]
	for _, p := range doors {
		if p.trouble.code == "" {
			return p
		}
		if p.at.After(best.at) {
			best = p
		}
	}
	return best
}

// named are the rows of a part under the name of its group's first node.
func (p *part) named(id string) []*Container {
	if p.node.ID == id {
		return p.rows
	}
	rows := make([]*Container, len(p.rows))
	for i, c := range p.rows {
		row := *c
		row.NodeID = id
		rows[i] = &row
	}
	return rows
}

// share puts the rows of an earlier snapshot in place of those that show the same.
func (s *snapshot) share(earlier *snapshot) {
	old := earlier.rows
	for i, c := range s.rows {
		for len(old) > 0 && byRef(old[0], c) < 0 {
			old = old[1:]
		}
		if len(old) > 0 && old[0] != c && old[0].equal(c) {
			s.rows[i] = old[0]
		}
	}
}

func byRef(a, b *Container) int {
	return cmp.Or(cmp.Compare(a.NodeID, b.NodeID), cmp.Compare(a.VMID, b.VMID))
}

// differs tells whether a snapshot that shares its rows with an earlier one shows anything else.
func (s *snapshot) differs(earlier *snapshot) bool {
	return !slices.Equal(s.rows, earlier.rows) || s.sourcesDiffer(earlier) || s.tasksDiffer(earlier)
}

func (s *snapshot) sourcesDiffer(earlier *snapshot) bool {
	return !slices.EqualFunc(s.parts, earlier.parts, func(a, b part) bool { return a.sameSource(&b) })
}

func (s *snapshot) tasksDiffer(earlier *snapshot) bool { return !slices.Equal(s.tasks, earlier.tasks) }

// sorted are the rows in the order of a valid query.
func (s *snapshot) sorted(by string) []*Container {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rows, ok := s.orders[by]; ok {
		return rows
	}
	rows := sortedBy(s.rows, by)
	if s.orders == nil || len(s.orders) >= maxOrders {
		s.orders = map[string][]*Container{}
	}
	s.orders[by] = rows
	return rows
}

// maxTagNames bounds the tags that a list names.
const maxTagNames = 100

// tagNames are the tags of the rows, the most frequent ones first.
func (s *snapshot) tagNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tags != nil {
		return s.tags
	}
	times := map[string]int{}
	for _, c := range s.rows {
		for _, tag := range c.Tags {
			times[tag]++
		}
	}
	s.tags = slices.SortedFunc(maps.Keys(times), func(a, b string) int { return cmp.Or(cmp.Compare(times[b], times[a]), cmp.Compare(a, b)) })
	s.tags = append([]string{}, s.tags[:min(len(s.tags), maxTagNames)]...)
	return s.tags
}

// find returns a container by any of its group's nodes; nil if there is none.
func (s *snapshot) find(nodeID string, vmid int) *Container {
	first, ok := s.groupOf[nodeID]
	if !ok {
		return nil
	}
	i, ok := slices.BinarySearchFunc(s.rows, &Container{NodeID: first, VMID: vmid}, byRef)
	if !ok {
		return nil
	}
	return s.rows[i]
}

// list answers a valid query.
func (s view) list(q Query) List {
	if first, ok := s.groupOf[q.Node]; ok {
		q.Node = first
	}
	l := List{Counts: s.counts, Nodes: s.sources(), Version: s.version, Tags: s.tagNames()}
	if q.Kind != "" && q.Kind != LXC {
		l.Counts = count(s.rows, q.Kind)
	}
	words := strings.Fields(strings.ToLower(q.Q))
	l.Items, l.Matched, l.Next = choose(s.sorted(q.Sort), filter{Query: q, words: words, hosts: s.hosts})
	return l
}
