package api

import (
	"slices"

	"berth/internal/session"
	"berth/internal/web"
)

// nodeRoutes are the routes of the caller's nodes. Access tokens see them; what concerns credentials is for sessions alone.
func (a *API) nodeRoutes() []web.Route {
	// What a host can be found to be like, and what it can refuse.
	tested := []string{
		"certificate_unknown", "certificate_changed", "host_unreachable", "host_refused", "not_proxmox",
		"token_not_accepted", "credential_not_accepted", "clock_wrong", "token_without_rights", "rights_missing",
		"forbidden_by_proxmox", "second_step_expired", "too_many_attempts",
	}
	saved := append(slices.Clone(tested), "too_many_nodes", "not_found")
	changed := append(slices.Clone(saved), "changed_meanwhile")
	tested = append(tested, "not_found")
	return []web.Route{
		authenticated("GET", "/api/nodes", "listNodes", "The caller's nodes, the default first; no host is asked", a.nodes.Nodes, nil).WithScope(session.ScopeRead),
		authenticated("POST", "/api/nodes", "addNode", "Add a node after a test; where the host asks for a second factor, the answer has tfa, and the same call with challenge, kind and code goes on", a.nodes.Add, nil, saved...),
		authenticated("POST", "/api/nodes/test", "testNode", "Test a node of the caller's (id), or one as it would be", a.nodes.Test, nil, tested...),
		authenticated("GET", "/api/nodes/{id}", "getNode", "One node of the caller's", a.nodes.ShowNode, nil, "not_found").WithScope(session.ScopeRead),
		authenticated("PATCH", "/api/nodes/{id}", "changeNode", "Change a node; another address, certificate or credential is tested first, and needs the secret again", a.nodes.Change, nil, changed...),
		authenticated("DELETE", "/api/nodes/{id}", "removeNode", "Remove a node; nothing on its host is lost but the API token that Berth made there", a.nodes.Remove, nil, "not_found"),
		authenticated("POST", "/api/nodes/{id}/default", "makeNodeDefault", "Make a node the default", a.nodes.MakeDefault, nil, "not_found"),
		authenticated("POST", "/api/nodes/tokens/{id}/remove", "removeLeftOverToken", "Remove a token on its host that Berth made and that no node uses any more", a.nodes.RemoveToken, nil, tested...),
		authenticated("POST", "/api/nodes/tokens/{id}/forget", "forgetLeftOverToken", "Take a token off the list that was removed on its host by hand", a.nodes.ForgetToken, nil, "not_found"),
	}
}
