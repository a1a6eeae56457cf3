package api

import (
	"berth/internal/session"
	"berth/internal/web"
)

// changeCodes are the problem codes of whatever changes a container.
var changeCodes = []string{
	"container_busy", "container_locked", "container_template", "container_changed", "virtual_machine", "wrong_state", "privilege_missing", "refused_by_proxmox",
	"forbidden_by_proxmox", "too_many_operations", "host_unreachable", "host_refused", "certificate_changed", "token_refused", "sign_in_needed",
}

// taskRoutes are the routes of changes, of what came of them, and of Proxmox VE's tasks.
func (a *API) taskRoutes() []web.Route {
	hostCodes := []string{"host_unreachable", "host_refused", "certificate_changed", "forbidden_by_proxmox", "token_refused", "sign_in_needed"}
	return []web.Route{
		authenticated("POST", "/api/containers/{nodeId}/{vmid}/{action}", "changeContainer",
			"Start, shut down, stop, reboot, suspend, resume, tag or delete a container", a.tasks.Change, nil, append(changeCodes, "confirmation_required")...).WithScope(session.ScopePower),
		authenticated("GET", "/api/operations/{id}", "operation", "How a change stands", a.tasks.Operation, nil).WithScope(session.ScopeRead),
		authenticated("POST", "/api/bulk", "changeContainers", "Take one action on many containers", a.tasks.Bulk, nil, "too_many_operations").WithScope(session.ScopePower),
		authenticated("GET", "/api/bulk/{id}", "bulkRun", "How far an action on many containers is", a.tasks.BulkStatus, nil).WithScope(session.ScopeRead),
		authenticated("POST", "/api/bulk/{id}/cancel", "cancelBulkRun", "Cancel what of an action on many containers has not begun", a.tasks.CancelBulk, nil).WithScope(session.ScopePower),
		authenticated("GET", "/api/tasks", "listTasks", "Running and recent tasks of all the caller's nodes", a.tasks.List, nil, hostCodes...).WithScope(session.ScopeRead),
		authenticated("GET", "/api/tasks/{nodeId}/{upid}", "task", "How a task stands", a.tasks.Show, nil, hostCodes...).WithScope(session.ScopeRead),
		authenticated("GET", "/api/tasks/{nodeId}/{upid}/log", "taskLog", "A part of a task's log", a.tasks.Log, nil, hostCodes...).WithScope(session.ScopeRead),
		authenticated("POST", "/api/tasks/{nodeId}/{upid}/stop", "stopTask", "Stop a running task", a.tasks.Stop, nil, append(hostCodes, "task_ended", "refused_by_proxmox")...).WithScope(session.ScopePower),
		authenticated("GET", "/api/notices", "listNotices", "The caller's own changes that failed, until they are seen", a.tasks.Notices, nil).WithScope(session.ScopeRead),
		authenticated("POST", "/api/notices/{id}/seen", "seeNotice", "Take a notice away, or all of them", a.tasks.MarkSeen, nil).WithScope(session.ScopePower),
	}
}
