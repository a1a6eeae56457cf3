package sim

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEffectivePermissions is a table of PVE's documented rules (pveum(1), "Permission Management"; AccessControl.pm,
// roles; RPCEnvironment.pm, permissions). Each case begins with nobody holding anything. The cast: alice and bob in
// group staff, alice also in group night, carol in none; alice has the tokens sep (separated) and full (not separated).
func TestEffectivePermissions(t *testing.T) {
	const (
		alice, bob, carol = "alice@pve", "bob@pve", "carol@pve"
		sep, full         = "alice@pve!sep", "alice@pve!full"
		rootSep           = "root@pam!sep"
	)
	user := func(id, path, role string) ACL { return ACL{User: id, Path: path, Role: role} }
	group := func(name, path, role string) ACL { return ACL{Group: name, Path: path, Role: role} }
	token := func(id, path, role string) ACL { return ACL{Token: id, Path: path, Role: role} }
	here := func(a ACL) ACL { a.NoPropagate = true; return a }
	no := []string{}
	all := slices.Sorted(maps.Keys(builtinRoles["Administrator"]))
	role := func(names ...string) []string {
		set := privileges{}
		for _, n := range names {
			set.add(slices.Collect(maps.Keys(builtinRoles[n]))...)
		}
		return slices.Sorted(maps.Keys(set))
	}

	for _, tt := range []struct {
		rule string
		acl  []ACL
		id   string
		path string
		want []string
	}{
		{"nobody holds anything by default", nil, alice, "/vms/101", no},
		{"root@pam holds everything without an entry", nil, rootUser, "/vms/101", all},
		{"root@pam can't be shut out", []ACL{user(rootUser, "/", "NoAccess")}, rootUser, "/vms/101", all},
		{"an unknown user holds nothing", []ACL{group("staff", "/", "Administrator")}, "eve@pve", "/", no},

		{"an entry counts on its own path", []ACL{user(alice, "/vms/101", "PVEVMUser")}, alice, "/vms/101", role("PVEVMUser")},
		{"an entry does not count beside its path", []ACL{user(alice, "/vms/101", "PVEVMUser")}, alice, "/vms/102", no},
		{"an entry does not count above its path", []ACL{user(alice, "/vms/101", "PVEVMUser")}, alice, "/vms", no},
		{"a path is compared by whole segments", []ACL{user(alice, "/vms/101", "PVEVMUser")}, alice, "/vms/1010", no},
		{"an entry propagates to what is below", []ACL{user(alice, "/vms", "PVEVMUser")}, alice, "/vms/101", role("PVEVMUser")},
		{"an entry on / reaches everything", []ACL{user(alice, "/", "PVEAuditor")}, alice, "/storage/local", role("PVEAuditor")},
		{"without propagation it counts on its path", []ACL{here(user(alice, "/vms", "PVEVMUser"))}, alice, "/vms", role("PVEVMUser")},
		{"without propagation it does not count below", []ACL{here(user(alice, "/vms", "PVEVMUser"))}, alice, "/vms/101", no},
		{"slashes that repeat or end a path do not matter", []ACL{user(alice, "//vms/101/", "PVEVMUser")}, alice, "/vms//101", role("PVEVMUser")},
		{"a path with impossible characters grants nothing", []ACL{user(alice, "/", "PVEAdmin")}, alice, "/vms/1 01", no},

		{"a more specific entry replaces what is inherited", []ACL{user(alice, "/", "PVEAdmin"), user(alice, "/vms/101", "PVEAuditor")}, alice, "/vms/101", role("PVEAuditor")},
		{"and leaves the other paths alone", []ACL{user(alice, "/", "PVEAdmin"), user(alice, "/vms/101", "PVEAuditor")}, alice, "/vms/102", role("PVEAdmin")},
		{"the nearest of several levels decides", []ACL{user(alice, "/", "PVEAdmin"), user(alice, "/vms", "PVEVMUser"), user(alice, "/vms/101", "PVETemplateUser")}, alice, "/vms/101", role("PVETemplateUser")},
		{"an entry that stops at its path does not hide what is above from what is below", []ACL{user(alice, "/", "PVEAuditor"), here(user(alice, "/vms", "PVEVMAdmin"))}, alice, "/vms/101", role("PVEAuditor")},
		{"but replaces it on its own path", []ACL{user(alice, "/", "PVEAuditor"), here(user(alice, "/vms", "PVEVMAdmin"))}, alice, "/vms", role("PVEVMAdmin")},
		{"roles on one path add up", []ACL{user(alice, "/vms", "PVEVMUser"), user(alice, "/vms", "PVETemplateUser")}, alice, "/vms/101", role("PVEVMUser", "PVETemplateUser")},

		{"a group's entry counts for its members", []ACL{group("staff", "/vms", "PVEVMUser")}, bob, "/vms/101", role("PVEVMUser")},
		{"and for nobody else", []ACL{group("staff", "/vms", "PVEVMUser")}, carol, "/vms/101", no},
		{"entries of several groups on one path add up", []ACL{group("staff", "/vms", "PVEVMUser"), group("night", "/vms", "PVETemplateUser")}, alice, "/vms/101", role("PVEVMUser", "PVETemplateUser")},
		{"a user's own entry replaces the groups' on the same path", []ACL{group("staff", "/vms", "PVEVMAdmin"), user(alice, "/vms", "PVEAuditor")}, alice, "/vms/101", role("PVEAuditor")},
		{"a group's more specific entry replaces the user's inherited one", []ACL{user(alice, "/", "PVEAdmin"), group("staff", "/vms/101", "PVEAuditor")}, alice, "/vms/101", role("PVEAuditor")},
		{"a user's own entry that does not reach here leaves the groups' in force", []ACL{group("staff", "/vms", "PVEVMUser"), here(user(alice, "/vms", "PVEAuditor"))}, alice, "/vms/101", role("PVEVMUser")},

		{"NoAccess takes away what is inherited", []ACL{user(alice, "/", "PVEAdmin"), user(alice, "/vms/101", "NoAccess")}, alice, "/vms/101", no},
		{"NoAccess silences other roles on the same path", []ACL{user(alice, "/vms", "PVEVMAdmin"), user(alice, "/vms", "NoAccess")}, alice, "/vms/101", no},
		{"NoAccess propagates", []ACL{user(alice, "/vms", "NoAccess"), user(alice, "/", "PVEAdmin")}, alice, "/vms/101", no},
		{"NoAccess is lifted by a more specific entry", []ACL{user(alice, "/vms", "NoAccess"), user(alice, "/vms/101", "PVEVMUser")}, alice, "/vms/101", role("PVEVMUser")},
		{"NoAccess of one group silences the others", []ACL{group("staff", "/vms", "PVEVMUser"), group("night", "/vms", "NoAccess")}, alice, "/vms/101", no},
		{"a user's own entry wins over a group's NoAccess on the same path", []ACL{group("staff", "/vms", "NoAccess"), user(alice, "/vms", "PVEVMUser")}, alice, "/vms/101", role("PVEVMUser")},
		{"NoAccess that stops at its path does not reach below", []ACL{user(alice, "/", "PVEAuditor"), here(user(alice, "/vms", "NoAccess"))}, alice, "/vms/101", role("PVEAuditor")},

		{"a token that is not separated holds what its user holds", []ACL{user(alice, "/vms", "PVEVMUser")}, full, "/vms/101", role("PVEVMUser")},
		{"and is not widened by entries of its own", []ACL{user(alice, "/vms", "PVEVMUser"), token(full, "/vms", "PVEVMAdmin")}, full, "/vms/101", role("PVEVMUser")},
		{"a separated token holds nothing by itself", []ACL{user(alice, "/", "Administrator")}, sep, "/vms/101", no},
		{"a separated token holds no more than its user", []ACL{user(alice, "/vms", "PVEAuditor"), token(sep, "/", "Administrator")}, sep, "/vms/101", role("PVEAuditor")},
		{"a separated token holds no more than its entries", []ACL{user(alice, "/", "Administrator"), token(sep, "/vms/101", "PVEVMUser")}, sep, "/vms/101", role("PVEVMUser")},
		{"a separated token's entries do not reach beside their path", []ACL{user(alice, "/", "Administrator"), token(sep, "/vms/101", "PVEVMUser")}, sep, "/vms/102", no},
		{"groups count for the user's share of the intersection", []ACL{group("staff", "/vms", "PVEVMUser"), token(sep, "/vms", "PVEVMAdmin")}, sep, "/vms/101", role("PVEVMUser")},
		{"groups do not count as the token's share", []ACL{user(alice, "/", "Administrator"), group("staff", "/vms", "PVEVMUser")}, sep, "/vms/101", no},
		{"NoAccess for the user empties the token", []ACL{user(alice, "/vms", "NoAccess"), token(sep, "/", "Administrator")}, sep, "/vms/101", no},
		{"root@pam's separated token holds its entries", []ACL{token(rootSep, "/vms", "PVEVMUser")}, rootSep, "/vms/101", role("PVEVMUser")},
		{"and nothing else", []ACL{token(rootSep, "/vms", "PVEVMUser")}, rootSep, "/storage/local", no},
		{"root@pam's token that is not separated holds everything", nil, "root@pam!full", "/vms/101", all},
		{"a token that does not exist holds nothing", []ACL{user(alice, "/", "Administrator")}, "alice@pve!nope", "/", no},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			d, err := New(Options{Empty: true})
			if err != nil {
				t.Fatal(err)
			}
			must(d.AddGroup("staff", ""))
			must(d.AddGroup("night", ""))
			must(d.AddUser(User{ID: alice, Groups: []string{"staff", "night"}}))
			must(d.AddUser(User{ID: bob, Groups: []string{"staff"}}))
			must(d.AddUser(User{ID: carol}))
			for _, id := range []string{sep, full, rootSep, "root@pam!full"} {
				owner, name, _ := strings.Cut(id, "!")
				if _, err := d.AddToken(owner, name, name == "sep", time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range tt.acl {
				must(d.Grant(a))
			}
			for range 2 { // the second answer comes from what the first one kept
				d.mu.Lock()
				got := slices.Sorted(maps.Keys(d.permissions(tt.id, tt.path)))
				d.mu.Unlock()
				if !slices.Equal(got, tt.want) {
					t.Errorf("%s on %s: got %v, want %v", tt.id, tt.path, got, tt.want)
				}
			}
		})
	}
}

func TestPropagationIsReported(t *testing.T) {
	d, err := New(Options{Empty: true})
	if err != nil {
		t.Fatal(err)
	}
	must(d.AddUser(User{ID: "alice@pve"}))
	must(d.Grant(ACL{User: "alice@pve", Path: "/vms", Role: "PVEVMUser", NoPropagate: true}))
	must(d.Grant(ACL{User: "alice@pve", Path: "/vms", Role: "PVETemplateUser"}))
	held := d.permissions("alice@pve", "/vms")
	if held["VM.PowerMgmt"] || !held["VM.Clone"] || !held["VM.Audit"] {
		t.Errorf("VM.PowerMgmt %v, VM.Clone %v, VM.Audit %v; want false, true, true", held["VM.PowerMgmt"], held["VM.Clone"], held["VM.Audit"])
	}
	if _, err := d.AddToken("alice@pve", "sep", true, time.Time{}); err != nil {
		t.Fatal(err)
	}
	must(d.Grant(ACL{Token: "alice@pve!sep", Path: "/vms", Role: "PVEVMUser"}))
	held = d.permissions("alice@pve!sep", "/vms")
	if propagates, ok := held["VM.PowerMgmt"]; !ok || propagates || !held["VM.Audit"] {
		t.Errorf("a token's privilege propagates only if its user's does: %v", held)
	}
}

// TestBuiltinRoles compares with what PVE 9.2 lists; the two roles for guests privilege by privilege.
func TestBuiltinRoles(t *testing.T) {
	want := []string{
		"Administrator", "NoAccess", "PVEAdmin", "PVEAuditor", "PVEDatastoreAdmin", "PVEDatastoreUser", "PVEMappingAdmin", "PVEMappingUser",
		"PVEPoolAdmin", "PVEPoolUser", "PVESDNAdmin", "PVESDNUser", "PVESysAdmin", "PVETemplateUser", "PVEUserAdmin", "PVEVMAdmin", "PVEVMUser",
	}
	if got := slices.Sorted(maps.Keys(builtinRoles)); !slices.Equal(got, want) {
		t.Errorf("roles %v", got)
	}
	for role, want := range map[string]string{
		"NoAccess": "",
		"PVEVMUser": "VM.Audit,VM.Backup,VM.Config.CDROM,VM.Config.Cloudinit,VM.Console,VM.GuestAgent.Audit,VM.GuestAgent.FileRead," +
			"VM.GuestAgent.FileSystemMgmt,VM.GuestAgent.FileWrite,VM.PowerMgmt",
		"PVEVMAdmin": "VM.Allocate,VM.Audit,VM.Backup,VM.Clone,VM.Config.CDROM,VM.Config.CPU,VM.Config.Cloudinit,VM.Config.Disk,VM.Config.HWType," +
			"VM.Config.Memory,VM.Config.Network,VM.Config.Options,VM.Console,VM.GuestAgent.Audit,VM.GuestAgent.FileRead,VM.GuestAgent.FileSystemMgmt," +
			"VM.GuestAgent.FileWrite,VM.GuestAgent.Unrestricted,VM.Migrate,VM.PowerMgmt,VM.Replicate,VM.Snapshot,VM.Snapshot.Rollback",
		"PVEAuditor":       "Datastore.Audit,Mapping.Audit,Pool.Audit,SDN.Audit,Sys.Audit,VM.Audit,VM.GuestAgent.Audit",
		"PVEDatastoreUser": "Datastore.AllocateSpace,Datastore.Audit",
		"PVESysAdmin":      "Sys.Audit,Sys.Console,Sys.Syslog",
		"PVEUserAdmin":     "Group.Allocate,Realm.AllocateUser,User.Modify",
		"PVETemplateUser":  "VM.Audit,VM.Clone",
	} {
		if got := builtinRoles[role].list(); got != want {
			t.Errorf("%s: %s", role, got)
		}
	}
	for _, p := range []string{"Sys.Modify", "Sys.PowerMgmt", "Realm.Allocate", "Permissions.Modify", "Mapping.Modify"} {
		if builtinRoles["PVEAdmin"][p] || !builtinRoles["Administrator"][p] {
			t.Errorf("%s: PVEAdmin %v, Administrator %v", p, builtinRoles["PVEAdmin"][p], builtinRoles["Administrator"][p])
		}
	}
}

func TestGrantRefuses(t *testing.T) {
	d, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []ACL{
		{User: "alice@pve", Path: "/vms/7", Role: "PVEVMUser"},
		{User: "alice@pve", Path: "/nonsense", Role: "PVEVMUser"},
		{User: "alice@pve", Path: "", Role: "PVEVMUser"},
		{User: "alice@pve", Path: "/", Role: "Nobody"},
		{User: "nobody@pve", Path: "/", Role: "PVEVMUser"},
		{Group: "nobody", Path: "/", Role: "PVEVMUser"},
		{Token: "alice@pve!nope", Path: "/", Role: "PVEVMUser"},
		{Path: "/", Role: "PVEVMUser"},
		{User: "alice@pve", Group: "staff", Path: "/", Role: "PVEVMUser"},
	} {
		if d.Grant(a) == nil {
			t.Errorf("%+v was taken", a)
		}
	}
}

func TestChangesTakeEffect(t *testing.T) {
	d, err := New(Options{Empty: true})
	if err != nil {
		t.Fatal(err)
	}
	must(d.AddGroup("staff", ""))
	must(d.AddUser(User{ID: "alice@pve"}))
	entry := ACL{Group: "staff", Path: "/vms", Role: "PVEVMUser"}
	who := &principal{id: "alice@pve", user: "alice@pve"}
	expect := func(when string, want bool) {
		t.Helper()
		if got := d.can(who, "/vms/101", "VM.Console"); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	expect("before", false)
	must(d.Grant(entry))
	expect("with an entry for a group that alice is not in", false)
	must(d.SetUser(User{ID: "alice@pve", Groups: []string{"staff"}}))
	expect("in the group", true)
	must(d.Revoke(entry))
	expect("without the entry", false)
	must(d.Grant(ACL{User: "alice@pve", Path: "/", Role: "Administrator"}))
	expect("as administrator", true)
	must(d.RemoveUser("alice@pve"))
	must(d.AddUser(User{ID: "alice@pve"}))
	expect("as a new user of the same name", false)
}
