package node

import (
	"maps"
	"slices"
	"strings"

	"berth/internal/pve"
)

// Right is whether a node's credential may do one thing with containers.
type Right struct {
	Part      string `json:"part" doc:"what it is needed for: list, power, config, snapshots, console or delete" example:"power"`
	Privilege string `json:"privilege" doc:"as Proxmox VE names it" example:"VM.PowerMgmt"`
	Held      string `json:"held" enum:"everywhere,some,nowhere" doc:"for all containers, for those under paths, or for none"`
	// Paths are those of the ACL on which the privilege is held, if it is not everywhere.
	Paths []string `json:"paths,omitempty" doc:"the first 20 paths of the access control list on which it is held"`
	More  int      `json:"morePaths,omitempty" doc:"how many paths there are beside these"`
}

// The values of Right.Held.
const (
	Everywhere = "everywhere"
	Somewhere  = "some"
	Nowhere    = "nowhere"
)

// parts are what Berth does with containers, and the privilege that each needs on /vms/VMID (PVE/API2/LXC.pm and below).
var parts = []struct{ name, privilege string }{
	{"list", "VM.Audit"},
	{"power", "VM.PowerMgmt"},
	{"config", "VM.Config.Options"},
	{"snapshots", "VM.Snapshot"},
	{"console", "VM.Console"},
	{"delete", "VM.Allocate"},
}

const maxPaths = 20

// rightsOf says what permissions mean for each part.
func rightsOf(held pve.Permissions) []Right {
	paths := slices.Sorted(maps.Keys(held))
	rights := make([]Right, 0, len(parts))
	for _, part := range parts {
		r := Right{Part: part.name, Privilege: part.privilege, Held: Nowhere}
		if held["/vms"][part.privilege] || held["/"][part.privilege] {
			r.Held = Everywhere
			rights = append(rights, r)
			continue
		}
		for _, path := range paths {
			if !held.Has(path, part.privilege) || !strings.HasPrefix(path, "/vms/") && !strings.HasPrefix(path, "/pool/") {
				continue
			}
			r.Held = Somewhere
			if len(r.Paths) == maxPaths {
				r.More++
			} else {
				r.Paths = append(r.Paths, path)
			}
		}
		rights = append(rights, r)
	}
	return rights
}

// canList tells whether any container can be seen.
func canList(rights []Right) bool { return rights[0].Held != Nowhere }

// holdsNothing tells whether there is no privilege at all, as with a token that has privilege separation and no ACL.
func holdsNothing(held pve.Permissions) bool {
	for _, privileges := range held {
		if len(privileges) > 0 {
			return false
		}
	}
	return true
}
