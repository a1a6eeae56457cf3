package sim

import (
	"fmt"
	"time"
)

// The accounts of the default world. Scripts and documentation rely on them; each has the password DefaultPassword.
//
//	root@pam   may do everything
//	alice@pve  PVEVMUser on /vms/101 and /vms/102, nothing else
//	bob@pve    PVEVMAdmin on /vms; second factor: TOTP, or one of ten recovery codes
//	carol@pve  disabled
//	dave@pve   expired on 2024-01-01
//	erin@corp    of the LDAP realm corp: PVEVMUser on /vms/104
//	frank@campus of the Active Directory realm campus, whose user names ignore case: PVEAuditor on /vms
const (
	DefaultPassword   = "berth-demo"
	DefaultTOTPSecret = "JBSWY3DPEHPK3PXP" // bob's
)

// DefaultRecoveryCodes are bob's, each good for one sign-in.
func DefaultRecoveryCodes() []string {
	return []string{
		"0b0b-0000-1111-a0a0", "0b0b-0001-2222-a1a1", "0b0b-0002-3333-a2a2", "0b0b-0003-4444-a3a3", "0b0b-0004-5555-a4a4",
		"0b0b-0005-6666-a5a5", "0b0b-0006-7777-a6a6", "0b0b-0007-8888-a7a7", "0b0b-0008-9999-a8a8", "0b0b-0009-aaaa-a9a9",
	}
}

// defaultAccess makes the accounts of the default world.
func (d *Datacenter) defaultAccess() {
	must(d.AddRealm(Realm{Name: "corp", Type: "ldap", Comment: "Company directory"}))
	must(d.AddRealm(Realm{Name: "campus", Type: "ad", IgnoreCase: true}))
	for _, u := range []User{
		{ID: rootUser, Email: "root@example.org"},
		{ID: "alice@pve", FirstName: "Alice", Email: "alice@example.org", Comment: "runs two containers"},
		{
			ID: "bob@pve", FirstName: "Bob", Email: "bob@example.org", Comment: "administers the containers",
			TOTPSecret: DefaultTOTPSecret, RecoveryCodes: DefaultRecoveryCodes(),
		},
		{ID: "carol@pve", FirstName: "Carol", Disabled: true, Comment: "disabled account"},
		{ID: "dave@pve", FirstName: "Dave", Expire: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Comment: "expired account"},
		{ID: "erin@corp", FirstName: "Erin", Comment: "runs a container"},
		{ID: "frank@campus", FirstName: "Frank", Comment: "looks after the containers"},
	} {
		u.Password = DefaultPassword
		must(d.AddUser(u))
	}
	for _, a := range []ACL{
		{Path: "/vms/101", User: "alice@pve", Role: "PVEVMUser"},
		{Path: "/vms/102", User: "alice@pve", Role: "PVEVMUser"},
		{Path: "/vms", User: "bob@pve", Role: "PVEVMAdmin"},
		{Path: "/vms/104", User: "erin@corp", Role: "PVEVMUser"},
		{Path: "/vms", User: "frank@campus", Role: "PVEAuditor"},
	} {
		must(d.Grant(a))
	}
}

// must is for worlds that are written in this package.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("sim: default world: %v", err))
	}
}
