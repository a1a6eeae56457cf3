package sim

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// accessEndpoints is /access, as far as a dashboard needs it (pve-access-control, PVE/API2/).
func accessEndpoints() []endpoint {
	self := func(c *call) error { return c.selfOrGroup("User.Modify") }
	tokenParams := []param{{name: "comment", kind: "string"}, {name: "expire", kind: "integer", min: 0, max: 1 << 40}, {name: "privsep", kind: "boolean"}}
	return []endpoint{
		{method: "GET", path: "/access/ticket", world: true, run: func(*call) (any, error) { return nil, nil }},
		{
			method: "POST", path: "/access/ticket", world: true, ticket: true, run: createTicket,
			params: []param{
				{name: "username", required: true, kind: "string", max: 64}, {name: "password", required: true, kind: "string"},
				{name: "realm", kind: "string", max: 32}, {name: "otp", kind: "string"}, {name: "tfa-challenge", kind: "string"},
				{name: "path", kind: "string", max: 64}, {name: "privs", kind: "string", max: 64}, {name: "new-format", kind: "boolean"},
			},
		},
		{method: "GET", path: "/access/domains", world: true, run: listDomains},
		{
			method: "GET", path: "/access/permissions", run: effectivePermissions,
			params: []param{{name: "path", kind: "string"}, {name: "userid", kind: "string", pattern: `^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+(![A-Za-z][A-Za-z0-9.\-_]+)?$`}},
		},
		{method: "GET", path: "/access/users", run: listUsers, params: []param{{name: "enabled", kind: "boolean"}, {name: "full", kind: "boolean"}}},
		{method: "GET", path: "/access/users/{userid}", check: func(c *call) error { return c.userGroup("User.Modify", "Sys.Audit") }, run: readUser},
		{method: "GET", path: "/access/users/{userid}/token", check: self, run: listTokens},
		{method: "GET", path: "/access/users/{userid}/token/{tokenid}", check: self, run: readToken},
		{method: "POST", path: "/access/users/{userid}/token/{tokenid}", check: self, params: tokenParams, run: createToken},
		{method: "PUT", path: "/access/users/{userid}/token/{tokenid}", check: self, params: tokenParams, run: updateToken},
		{method: "DELETE", path: "/access/users/{userid}/token/{tokenid}", check: self, run: deleteToken},
		{
			method: "PUT", path: "/access/password", ticket: true, run: changePassword,
			check: func(c *call) error {
				if c.isSelf() {
					return nil
				}
				if err := c.need("/access/realm/"+realmOf(c.param("userid")), "Realm.AllocateUser"); err != nil {
					return permissionDeniedPlain()
				}
				return c.userGroup("User.Modify")
			},
			params: []param{
				{name: "userid", required: true, kind: "string", max: 64},
				{name: "password", required: true, kind: "string", min: 8, max: 64},
				{name: "confirmation-password", kind: "string", min: 5, max: 64},
			},
		},
		{method: "GET", path: "/access/acl", run: listACL},
		{method: "GET", path: "/access/roles", run: listRoles},
		{method: "GET", path: "/access/roles/{roleid}", run: readRole},
		{method: "GET", path: "/access/groups", run: listGroups},
	}
}

// permissionDeniedPlain is raise_perm_exc without a text, as alternatives and user checks use it.
func permissionDeniedPlain() error {
	return &reply{status: http.StatusForbidden, reason: "Permission check failed"}
}

// authenticationFailure is the one answer to every refused sign-in, so that nobody learns which users exist
// (API2/AccessControl.pm, create_ticket).
func authenticationFailure() error {
	return &reply{status: http.StatusUnauthorized, reason: "authentication failure"}
}

// createTicket is create_ticket and create_ticket_do of PVE/API2/AccessControl.pm, and authenticate_user of
// PVE/AccessControl.pm.
func createTicket(c *call) (any, error) {
	if c.has("path") != c.has("privs") {
		missing, present := "path", "privs"
		if c.has("path") {
			missing, present = present, missing
		}
		return nil, badParam(present, "missing property - '"+present+"' requires this property: "+missing)
	}
	name := c.param("username")
	if c.has("realm") {
		name += "@" + c.param("realm")
	}
	u, name := c.dc.access.account(name)
	if !u.active(c.clock) {
		return nil, authenticationFailure()
	}
	password := c.param("password")

	if owner, ok := c.dc.ticketUser(password, c.clock); ok && !c.has("tfa-challenge") {
		// Renewal. root@pam's ticket makes tickets for anybody.
		if owner != name && (owner != rootUser || !c.dc.access.users[rootUser].active(c.clock)) {
			return nil, authenticationFailure()
		}
		return c.dc.fullTicket(c, name), nil
	}

	if c.has("tfa-challenge") {
		asked := c.dc.openChallenge(c.param("tfa-challenge"), name, c.clock)
		if c.has("otp") || asked == nil || u.factors.verify(asked, password, c.clock) != nil {
			return nil, authenticationFailure()
		}
		return c.dc.fullTicket(c, name), nil
	}

	// A realm of type openid verifies no passwords (Auth/OpenId.pm, authenticate_user).
	if r := c.dc.access.realm(realmOf(name)); r == nil || r.Type == "openid" || u.Password == "" || u.Password != password {
		return nil, authenticationFailure()
	}
	asks := u.factors.challenge()
	if c.has("otp") {
		if asks == nil || u.factors.verify(asks, c.param("otp"), c.clock) != nil {
			return nil, authenticationFailure()
		}
		asks = u.factors.challenge() // PVE asks for the second step all the same
	}
	if asks == nil {
		return c.dc.fullTicket(c, name), nil
	}
	return map[string]any{
		"username":            name,
		"ticket":              c.dc.newChallenge(name, asks, c.clock),
		"CSRFPreventionToken": c.dc.newCSRFToken(name, c.clock),
		"NeedTFA":             1,
	}, nil
}

// fullTicket is the answer to a complete sign-in.
func (d *Datacenter) fullTicket(c *call, name string) map[string]any {
	answer := map[string]any{
		"username":            name,
		"ticket":              d.newTicket(name, c.clock),
		"CSRFPreventionToken": d.newCSRFToken(name, c.clock),
		"cap":                 d.capabilities(name),
	}
	if _, audits := d.permissions(name, "/")["Sys.Audit"]; audits && d.options.Name != "" {
		answer["clustername"] = d.options.Name
	}
	return answer
}

// capabilityAreas are the areas of "cap" and the privileges that count in each (RPCEnvironment.pm,
// compute_api_permission; the patterns there are prefixes).
var capabilityAreas = map[string][]string{
	"vms":     {"VM.", "Permissions.Modify"},
	"access":  {"User.", "Group.", "Permissions.Modify"},
	"storage": {"Datastore.", "Permissions.Modify"},
	"nodes":   {"Sys.", "Permissions.Modify"},
	"sdn":     {"SDN.", "Permissions.Modify"},
	"dc":      {"Sys.Audit", "Sys.Modify", "SDN."},
	"mapping": {"Mapping.", "Permissions.Modify"},
}

func (d *Datacenter) capabilities(name string) map[string]map[string]int {
	areas := map[string]map[string]int{}
	for area := range capabilityAreas {
		areas[area] = map[string]int{}
	}
	paths := []string{"/", "/nodes", "/access/groups", "/vms", "/storage", "/sdn", "/mapping"}
	d.access.acl.forEach("/", func(path string, _ *aclNode) { paths = append(paths, path) })
	for _, path := range paths {
		area, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if area == "" {
			area = "dc"
		}
		for p := range d.permissions(name, path) {
			if area == "pool" {
				switch {
				case strings.HasPrefix(p, "VM."):
					areas["vms"][p] = 1
				case strings.HasPrefix(p, "Datastore."):
					areas["storage"][p] = 1
				case p == "Permissions.Modify":
					areas["vms"][p], areas["storage"][p] = 1, 1
				}
				continue
			}
			for _, prefix := range capabilityAreas[area] {
				if strings.HasPrefix(p, prefix) {
					areas[area][p] = 1
				}
			}
		}
	}
	return areas
}

// effectivePermissions is get_effective_permissions (RPCEnvironment.pm), restricted as API2/AccessControl.pm,
// permissions.
func effectivePermissions(c *call) (any, error) {
	id := c.who.id
	if asked := c.param("userid"); asked != "" && asked != id {
		owner, _, _ := strings.Cut(asked, "!")
		if owner != c.who.id { // one's own tokens are free to see
			if err := c.need("/access", "Sys.Audit"); err != nil {
				return nil, err
			}
		}
		if c.dc.access.users[owner] == nil {
			return nil, plain("user '" + owner + "' not found")
		}
		id = asked
	}
	var paths []string
	if p := c.param("path"); p != "" {
		normal := normalizeACLPath(p)
		if normal == "" {
			return nil, badParam("path", "invalid path")
		}
		paths = []string{normal}
	} else {
		paths = []string{"/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"}
		c.dc.access.acl.forEach("/", func(path string, _ *aclNode) { paths = append(paths, path) })
	}
	answer := map[string]map[string]int{}
	for _, path := range paths {
		held := c.dc.permissions(id, path)
		if len(held) == 0 && !c.has("path") {
			continue
		}
		answer[path] = map[string]int{}
		for p, propagates := range held {
			answer[path][p] = number(propagates)
		}
	}
	return answer, nil
}

// number is a boolean as PVE writes it.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// setIf sets a field that PVE leaves away when it is empty.
func setIf(m map[string]any, name, value string) {
	if value != "" {
		m[name] = value
	}
}

func (u *user) expireUnix() int64 {
	if u.Expire.IsZero() {
		return 0
	}
	return u.Expire.Unix()
}

func (u *user) fields() map[string]any {
	m := map[string]any{"enable": number(!u.Disabled), "expire": u.expireUnix()}
	setIf(m, "firstname", u.FirstName)
	setIf(m, "lastname", u.LastName)
	setIf(m, "email", u.Email)
	setIf(m, "comment", u.Comment)
	return m
}

func (t *token) fields() map[string]any {
	m := map[string]any{"privsep": number(t.privsep), "expire": t.expire}
	setIf(m, "comment", t.comment)
	return m
}

func (u *user) tokenList() []map[string]any {
	list := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(u.tokens)) {
		m := u.tokens[name].fields()
		m["tokenid"] = name
		list = append(list, m)
	}
	return list
}

// listUsers shows everybody to who may audit or modify all users, a group's members to who may do so on that group,
// and always oneself (API2/User.pm, index).
func listUsers(c *call) (any, error) {
	all := c.dc.canAny(c.who, "/access/groups", "User.Modify", "Sys.Audit")
	list := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(c.dc.access.users)) {
		u := c.dc.access.users[id]
		if !all && id != c.who.user && !c.onGroupOf(id, "User.Modify", "Sys.Audit") {
			continue
		}
		if c.has("enabled") && (c.param("enabled") == "1") == u.Disabled {
			continue
		}
		m := u.fields()
		m["userid"] = id
		if r := c.dc.access.realm(realmOf(id)); r != nil {
			m["realm-type"] = r.Type
		}
		if c.param("full") == "1" {
			m["groups"] = strings.Join(c.dc.access.groupsOf(id), ",")
			m["tokens"] = u.tokenList()
		}
		if u.factors.totpLocked {
			m["totp-locked"] = 1
		}
		list = append(list, m)
	}
	return list, nil
}

// onGroupOf tells whether the caller holds any of privs on a group that id belongs to.
func (c *call) onGroupOf(id string, privs ...string) bool {
	for _, g := range c.dc.access.groupsOf(id) {
		if c.dc.canAny(c.who, "/access/groups/"+g, privs...) {
			return true
		}
	}
	return false
}

// userGroup is the test userid-group (RPCEnvironment.pm, exec_api2_perm_check).
func (c *call) userGroup(privs ...string) error {
	id := c.param("userid")
	if c.dc.access.users[id] == nil {
		return plain("no such user ('" + id + "')")
	}
	if c.dc.canAny(c.who, "/access/groups", privs...) || c.onGroupOf(id, privs...) {
		return nil
	}
	return permissionDeniedPlain()
}

// isSelf is the test userid-param self. A token is not its user: its id differs.
func (c *call) isSelf() bool {
	return c.who.id == c.param("userid") && c.dc.access.users[c.who.id] != nil
}

// selfOrGroup is the pair of tests that guards a user's tokens; whatever fails, it says no more than that it failed.
func (c *call) selfOrGroup(privs ...string) error {
	if c.isSelf() || c.dc.access.users[c.param("userid")] != nil && c.userGroup(privs...) == nil {
		return nil
	}
	return permissionDeniedPlain()
}

func (c *call) paramUser() (*user, error) {
	u := c.dc.access.users[c.param("userid")]
	if u == nil {
		return nil, plain("no such user ('" + c.param("userid") + "')")
	}
	return u, nil
}

func readUser(c *call) (any, error) {
	u, err := c.paramUser()
	if err != nil {
		return nil, err
	}
	m := u.fields()
	if groups := c.dc.access.groupsOf(u.ID); len(groups) > 0 {
		m["groups"] = groups
	}
	if len(u.tokens) > 0 {
		tokens := map[string]any{}
		for name, t := range u.tokens {
			tokens[name] = t.fields()
		}
		m["tokens"] = tokens
	}
	return m, nil
}

func listTokens(c *call) (any, error) {
	u, err := c.paramUser()
	if err != nil {
		return nil, err
	}
	return u.tokenList(), nil
}

func (c *call) paramToken() (*user, *token, error) {
	u, err := c.paramUser()
	if err != nil {
		return nil, nil, err
	}
	t := u.tokens[c.param("tokenid")]
	if t == nil {
		return nil, nil, plain("no such token '" + c.param("tokenid") + "' for user '" + u.ID + "'")
	}
	return u, t, nil
}

func readToken(c *call) (any, error) {
	_, t, err := c.paramToken()
	if err != nil {
		return nil, err
	}
	return t.fields(), nil
}

func createToken(c *call) (any, error) {
	u, err := c.paramUser()
	if err != nil {
		return nil, err
	}
	name := c.param("tokenid")
	if !tokenName.MatchString(name) {
		return nil, badParam("tokenid", "value does not match the regex pattern")
	}
	t := &token{privsep: !c.has("privsep") || c.param("privsep") == "1", expire: c.integer("expire"), comment: c.param("comment")}
	if u.tokens[name] != nil {
		return nil, badParam("tokenid", "Token already exists.")
	}
	secret, err := c.dc.access.addToken(u.ID, name, t)
	if err != nil {
		return nil, err
	}
	info := map[string]any{"privsep": number(t.privsep)}
	if c.has("expire") {
		info["expire"] = t.expire
	}
	setIf(info, "comment", t.comment)
	return map[string]any{"full-tokenid": u.ID + "!" + name, "info": info, "value": secret}, nil
}

// updateToken is API2/User.pm, update_token_info, without its parameters delete and regenerate. An empty comment changes
// nothing there either.
func updateToken(c *call) (any, error) {
	_, t, err := c.paramToken()
	if err != nil {
		return nil, err
	}
	if c.has("privsep") {
		t.privsep = c.flag("privsep")
		c.dc.access.forget()
	}
	if c.has("expire") {
		t.expire = c.integer("expire")
	}
	if comment := c.param("comment"); comment != "" {
		t.comment = comment
	}
	return t.fields(), nil
}

func deleteToken(c *call) (any, error) {
	u, _, err := c.paramToken()
	if err != nil {
		return nil, err
	}
	name := c.param("tokenid")
	delete(u.tokens, name)
	c.dc.access.removeACL(u.ID+"!"+name, func(n *aclNode) map[string]map[string]bool { return n.tokens })
	return nil, nil
}

// changePassword is API2/AccessControl.pm, change_password. Everybody but root@pam confirms with their own password.
// Tickets issued before stay valid.
func changePassword(c *call) (any, error) {
	u, err := c.paramUser()
	if err != nil {
		return nil, err
	}
	if c.who.id != rootUser {
		if !c.has("confirmation-password") {
			return nil, badParam("confirmation-password", "password is required to modify user")
		}
		if own := c.dc.access.users[c.who.id]; own == nil || own.Password != c.param("confirmation-password") {
			return nil, plain("authentication failure")
		}
		if u.ID == rootUser {
			return nil, permissionDeniedPlain()
		}
	}
	u.Password = c.param("password")
	return nil, nil
}

// listACL shows the entries of paths on which the caller may change them (API2/ACL.pm, read_acl).
func listACL(c *call) (any, error) {
	list := []map[string]any{}
	all := c.dc.can(c.who, "/access", "Sys.Audit")
	c.dc.access.acl.forEach("/", func(path string, n *aclNode) {
		if !all && !c.mayChangeACL(path) {
			return
		}
		for kind, of := range map[string]map[string]map[string]bool{"user": n.users, "group": n.groups, "token": n.tokens} {
			for name, roles := range of {
				for role, propagates := range roles {
					list = append(list, map[string]any{"path": path, "type": kind, "ugid": name, "roleid": role, "propagate": number(propagates)})
				}
			}
		}
	})
	order := func(m map[string]any) string {
		return m["path"].(string) + "\x00" + m["type"].(string) + "\x00" + m["ugid"].(string) + "\x00" + m["roleid"].(string)
	}
	slices.SortFunc(list, func(a, b map[string]any) int { return strings.Compare(order(a), order(b)) })
	return list, nil
}

// mayChangeACL is check_perm_modify (RPCEnvironment.pm).
func (c *call) mayChangeACL(path string) bool {
	enough := []string{"Permissions.Modify"}
	switch {
	case strings.HasPrefix(path, "/storage/"):
		enough = append(enough, "Datastore.Allocate")
	case strings.HasPrefix(path, "/vms/"):
		enough = append(enough, "VM.Allocate")
	case strings.HasPrefix(path, "/pool/"):
		enough = append(enough, "Pool.Allocate")
	}
	return c.dc.canAny(c.who, path, enough...)
}

func listRoles(c *call) (any, error) {
	list := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(c.dc.access.roles)) {
		_, special := builtinRoles[name]
		list = append(list, map[string]any{"roleid": name, "privs": c.dc.access.roles[name].list(), "special": number(special)})
	}
	return list, nil
}

func readRole(c *call) (any, error) {
	set, ok := c.dc.access.roles[c.param("roleid")]
	if !ok {
		return nil, plain("role '" + c.param("roleid") + "' does not exist")
	}
	answer := map[string]int{}
	for p := range set {
		answer[p] = 1
	}
	return answer, nil
}

// listGroups shows the groups on which the caller may do something (API2/Group.pm, index).
func listGroups(c *call) (any, error) {
	list := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(c.dc.access.groups)) {
		if !c.dc.canAny(c.who, "/access/groups/"+name, "User.Modify", "Sys.Audit", "Group.Allocate") {
			continue
		}
		g := c.dc.access.groups[name]
		m := map[string]any{"groupid": name, "users": strings.Join(slices.Sorted(maps.Keys(g.members)), ",")}
		setIf(m, "comment", g.comment)
		list = append(list, m)
	}
	return list, nil
}

// tokenPrincipal checks a credential of the form user@realm!name=value and returns whose it is (AccessControl.pm,
// verify_token).
func (d *Datacenter) tokenPrincipal(credential string, now time.Time) *principal {
	id, value, _ := strings.Cut(credential, "=")
	name, _, ok := strings.Cut(id, "!")
	t := d.access.token(id)
	if !ok || t == nil || t.value != value || !d.access.users[name].active(now) || t.expire > 0 && t.expire < now.Unix() {
		return nil
	}
	return newPrincipal(id)
}
