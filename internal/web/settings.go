package web

import (
	"context"
	"slices"

	"berth/internal/session"
	"berth/internal/web/view"
)

// settingsPages are the entries under Settings in the sidebar that everybody has, in the order in which they are shown.
var settingsPages = []view.NavLink{
	{Name: "nodes", Label: "Nodes", Path: "/settings/nodes", Icon: "node"},
	{Name: "sessions", Label: "Sessions", Path: "/settings/sessions", Icon: "device"},
	{Name: "tokens", Label: "Access tokens", Path: "/settings/tokens", Icon: "key"},
	{Name: "audit", Label: "Audit", Path: "/settings/audit", Icon: "trail"},
	{Name: "about", Label: "About", Path: "/settings/about", Icon: "info"},
}

// ownerPages are the further entries of those whose Proxmox installation owns this Berth.
var ownerPages = []view.NavLink{
	{Name: "hosts", Label: "Login hosts", Path: "/settings/hosts", Icon: "host"},
}

// settingsFor are the caller's entries. One that is shown is no promise: its page asks Proxmox VE.
func (s *Site) settingsFor(ctx context.Context, caller session.Caller) []view.NavLink {
	if !s.o.Auth.ShownAsOwner(ctx, caller) {
		return settingsPages
	}
	return allSettingsPages
}

// allSettingsPages have About at their end too.
var allSettingsPages = slices.Insert(slices.Clone(settingsPages), len(settingsPages)-1, ownerPages...)
