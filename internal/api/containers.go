package api

import (
	"net/http"
	"strings"

	"berth/internal/container"
	"berth/internal/session"
	"berth/internal/web"
)

func (a *API) containerRoutes() []web.Route {
	return []web.Route{
		a.listContainers(),
		a.events(),
		authenticated("GET", "/api/containers/{nodeId}/{vmid}", "showContainer", "One container: its row, what it uses now, its configuration and addresses", a.details.Get, nil,
			"not_found", "host_unreachable", "host_refused", "certificate_changed", "forbidden_by_proxmox").WithScope(session.ScopeRead),
		authenticated("GET", "/api/containers/{nodeId}/{vmid}/graph", "graphContainer", "What one container used over a time frame", a.details.Graph, nil,
			"not_found", "host_unreachable", "host_refused", "certificate_changed", "forbidden_by_proxmox").WithScope(session.ScopeRead),
		authenticated("PATCH", "/api/containers/{nodeId}/{vmid}", "editContainer", "Change tags and description of a container", a.details.Edit, nil,
			"not_found", "changed_meanwhile", "refused_by_proxmox", "host_unreachable", "host_refused", "certificate_changed", "forbidden_by_proxmox").WithScope(session.ScopeAll),
	}
}

func (a *API) events() web.Route {
	route := document[web.EventsQuery, container.Change](a.site.EventsRoute(), "events", eventsSummary, []string{"too_many_streams", "shutting_down"})
	route.Doc.Media = "text/event-stream"
	return route
}

const eventsSummary = "What changes, as server-sent events. The id of each is the version of what the caller sees. " +
	"containers: containers that have changed, and nodes with their problems (the schema of the answer). " +
	"tasks: version, changed (tasks that have begun or ended) and running (how many do). " +
	"reset: what changed since the version that the client knows can't be told; fetch everything. " +
	"end: the session has ended; don't come back without another one. " +
	"A comment comes every 15 seconds"

// listContainers is the route of the containers. Its ETag is the version of what the caller sees, so that a client that
// asks again for what it has is answered without it.
func (a *API) listContainers() web.Route {
	route := web.AuthenticatedRoute("GET", "/api/containers", web.API, func(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
		query, err := web.DecodeForm[container.Query](r)
		if err != nil {
			return err
		}
		list, err := a.containers.List(r.Context(), caller, query)
		if err != nil {
			return err
		}
		if a.containers.FirstAddresses(r.Context(), caller, container.Refs(list.Items)) {
			if list, err = a.containers.List(r.Context(), caller, query); err != nil {
				return err
			}
		}
		// When its nodes were read is in the answer and not in the version: two answers mean the same, byte by byte or not.
		tag := `W/"` + list.Version + `"`
		w.Header().Set("ETag", tag)
		if matches(r.Header.Values("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		return web.WriteJSON(w, list)
	}).WithScope(session.ScopeRead)
	return document[container.Query, container.List](route, "listContainers",
		"The caller's containers, a page at a time; with an ETag for If-None-Match, which 304 answers",
		[]string{"host_unreachable", "host_refused", "certificate_changed", "forbidden_by_proxmox", "token_refused", "sign_in_needed"})
}

// matches tells whether a header If-None-Match names an entity tag, weak or strong.
func matches(headers []string, tag string) bool {
	opaque := strings.TrimPrefix(tag, "W/")
	for _, header := range headers {
		for one := range strings.SplitSeq(header, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == opaque {
				return true
			}
		}
	}
	return false
}
