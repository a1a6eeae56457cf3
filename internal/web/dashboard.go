package web

import (
	"net/http"
	"strconv"
	"time"

	"berth/internal/container"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/web/view"
)

// maxRows is how many containers one page shows: more can't be taken in, and a page of ten thousand would have 15 MB.
const maxRows = 500

// dashboard shows the caller's containers. A node that can't be read costs a banner, never the page.
func (s *Site) dashboard(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	query, err := DecodeForm[container.Query](r)
	if fault.KindOf(err) == fault.Invalid && err != nil {
		// An address that somebody changed by hand shows the whole list rather than a refusal.
		query, err = container.Query{}, nil
	}
	if err != nil {
		return err
	}
	query.Limit = strconv.Itoa(maxRows)
	list, err := s.o.Containers.List(r.Context(), caller, query)
	if err != nil && (len(list.Nodes) == 0 || fault.KindOf(err) == fault.Unauthenticated) {
		return err
	}
	page := view.Dashboard{
		Shell: s.callerShell(r.Context(), caller, "Containers", "containers"),
		Query: query.Q, Status: query.Status, Sort: query.Sort,
		Total: list.Counts.Total, Running: list.Counts.Running, Stopped: list.Counts.Stopped, Other: list.Counts.Other,
		Rows: make([]view.Container, 0, len(list.Items)), Now: s.o.Now(),
	}
	hosts := map[string]string{}
	for _, n := range list.Nodes {
		hosts[n.NodeID] = n.Name
		page.ReadAt = n.ReadAt
		if n.Problem != "" {
			page.Stale = !n.ReadAt.IsZero()
			page.Banner = banner(n)
		}
	}
	page.More = list.Matched - len(list.Items)
	for _, c := range list.Items {
		page.Rows = append(page.Rows, view.Container{
			NodeID: c.NodeID, Node: c.Node, Host: hosts[c.NodeID], VMID: c.VMID, Name: c.Name, Status: c.Status,
			CPU: c.CPU, MaxCPU: c.MaxCPU, Mem: c.Mem, MaxMem: c.MaxMem, Disk: c.Disk, MaxDisk: c.MaxDisk,
			Uptime: c.Uptime, Tags: c.Tags, MoreTags: c.MoreTags, Lock: c.Lock, Template: c.Template,
		})
	}
	s.render(w, r, http.StatusOK, view.DashboardPage(page))
	return nil
}

func banner(n container.Source) *view.Banner {
	b := &view.Banner{Title: pve.Address{Host: n.Host, Port: n.Port}.String() + ": " + n.Problem, Since: n.ReadAt}
	if n.ReadAt.Equal(time.Time{}) {
		b.Detail = "Nothing is known of its containers yet. This page tries again by itself."
	} else {
		b.Detail = "What you see is what was last known. This page tries again by itself."
	}
	return b
}
