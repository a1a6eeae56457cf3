package sim

import (
	"maps"
	"slices"
	"strings"
)

// privilegeGroup is one row of PVE's table from which the built-in roles are made (AccessControl.pm, privgroups): what
// only root and Administrator hold, what PVE...Admin adds, what PVE...User holds, and what an auditor sees.
type privilegeGroup struct {
	area                     string
	root, admin, user, audit []string
}

var privilegeGroups = []privilegeGroup{
	{
		area: "VM",
		admin: []string{
			"VM.Config.Disk", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.HWType", "VM.Config.Options",
			"VM.Allocate", "VM.Clone", "VM.Migrate", "VM.Replicate", "VM.Snapshot", "VM.Snapshot.Rollback", "VM.GuestAgent.Unrestricted",
		},
		user: []string{
			"VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.Backup", "VM.PowerMgmt",
			"VM.GuestAgent.FileRead", "VM.GuestAgent.FileWrite", "VM.GuestAgent.FileSystemMgmt",
		},
		audit: []string{"VM.Audit", "VM.GuestAgent.Audit"},
	},
	{
		area:  "Sys",
		root:  []string{"Sys.PowerMgmt", "Sys.Modify", "Sys.Incoming", "Sys.AccessNetwork"},
		admin: []string{"Sys.Console", "Sys.Syslog"},
		audit: []string{"Sys.Audit"},
	},
	{
		area:  "Datastore",
		admin: []string{"Datastore.Allocate", "Datastore.AllocateTemplate"},
		user:  []string{"Datastore.AllocateSpace"},
		audit: []string{"Datastore.Audit"},
	},
	{
		area:  "SDN",
		admin: []string{"SDN.Allocate"},
		user:  []string{"SDN.Use"},
		audit: []string{"SDN.Audit"},
	},
	{
		area:  "User",
		root:  []string{"Realm.Allocate"},
		admin: []string{"User.Modify", "Group.Allocate", "Realm.AllocateUser"},
	},
	{
		area:  "Pool",
		admin: []string{"Pool.Allocate"},
		user:  []string{"Pool.Audit"},
		audit: []string{"Pool.Audit"},
	},
	{
		area:  "Mapping",
		admin: []string{"Mapping.Modify"},
		user:  []string{"Mapping.Use"},
		audit: []string{"Mapping.Audit"},
	},
}

// privileges is a set of privilege names.
type privileges map[string]bool

func (p privileges) add(names ...string) {
	for _, n := range names {
		p[n] = true
	}
}

// list is the set as PVE writes it: sorted, joined by commas.
func (p privileges) list() string { return strings.Join(slices.Sorted(maps.Keys(p)), ",") }

// builtinRoles are the roles that PVE makes at start and nobody can change (AccessControl.pm, create_roles).
var builtinRoles = func() map[string]privileges {
	roles := map[string]privileges{
		"NoAccess":        {},
		"Administrator":   {"Permissions.Modify": true},
		"PVEAdmin":        {},
		"PVEAuditor":      {},
		"PVETemplateUser": {"VM.Clone": true, "VM.Audit": true},
	}
	for _, g := range privilegeGroups {
		roles["Administrator"].add(slices.Concat(g.root, g.admin, g.user, g.audit)...)
		roles["PVEAdmin"].add(slices.Concat(g.admin, g.user, g.audit)...)
		roles["PVEAuditor"].add(g.audit...)
		admin := privileges{}
		admin.add(slices.Concat(g.admin, g.user, g.audit)...)
		roles["PVE"+g.area+"Admin"] = admin
		if len(g.user) > 0 {
			user := privileges{}
			user.add(slices.Concat(g.user, g.audit)...)
			roles["PVE"+g.area+"User"] = user
		}
	}
	// Mappings may only be changed by Administrator and PVEMappingAdmin.
	delete(roles["PVEAdmin"], "Mapping.Modify")
	return roles
}()
