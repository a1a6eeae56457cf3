package sim

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// ACL is one entry of the access control list. Exactly one of User, Group and Token is set.
type ACL struct {
	Path        string // an ACL path such as "/", "/vms/101", "/nodes/pve1", "/storage/local"
	User        string // user@realm
	Group       string // group name
	Token       string // user@realm!token
	Role        string // a built-in role, or one added by AddRole
	NoPropagate bool   // whether the entry stops at its path; PVE's default is to propagate
}

// aclNode is one path of the tree that entries hang in (AccessControl.pm, find_acl_tree_node). The innermost maps tell
// for each role whether it propagates.
type aclNode struct {
	children              map[string]*aclNode
	users, groups, tokens map[string]map[string]bool
}

// normalizeACLPath is PVE's normalize_path (AccessControl.pm); "" stands for a path that it refuses.
func normalizeACLPath(path string) string {
	if path == "" {
		return ""
	}
	var b strings.Builder
	for segment := range strings.SplitSeq(path, "/") {
		if segment != "" {
			b.WriteByte('/')
			b.WriteString(segment)
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	for _, c := range b.String() {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("._-/", c):
		default:
			return ""
		}
	}
	return b.String()
}

// aclPath are the paths that an entry may have (AccessControl.pm, check_path).
var aclPath = regexp.MustCompile(`^(/|/access(/(groups|realm)(/[\w.-]+)?)?|/(nodes|pool|storage)(/[\w.-]+)?|` +
	`/sdn(/zones(/[\w.-]+(/[\w.-]+(/[1-9]\d{0,3})?)?)?)?|/vms(/[1-9]\d{2,})?|/mapping(/[\w.-]+(/[\w.-]+)?)?)$`)

// Grant adds an entry to the access control list. It fails if PVE would not take it: an impossible path, or a role,
// user, group or token that does not exist.
func (d *Datacenter) Grant(a ACL) error { return d.changeACL(a, true) }

// Revoke takes an entry away again; NoPropagate plays no part. An entry that is not there is no error.
func (d *Datacenter) Revoke(a ACL) error { return d.changeACL(a, false) }

func (d *Datacenter) changeACL(a ACL, grant bool) error {
	path := normalizeACLPath(a.Path)
	if !aclPath.MatchString(path) {
		return fmt.Errorf("invalid ACL path '%s'", a.Path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.access
	if _, ok := s.roles[a.Role]; !ok {
		return fmt.Errorf("role '%s' does not exist", a.Role)
	}
	node := &s.acl
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if segment == "" {
			continue
		}
		if node.children == nil {
			node.children = map[string]*aclNode{}
		}
		if node.children[segment] == nil {
			node.children[segment] = &aclNode{}
		}
		node = node.children[segment]
	}
	var of *map[string]map[string]bool
	var name string
	switch {
	case a.User != "" && a.Group == "" && a.Token == "":
		if s.users[a.User] == nil {
			return fmt.Errorf("no such user ('%s')", a.User)
		}
		of, name = &node.users, a.User
	case a.Group != "" && a.User == "" && a.Token == "":
		if s.groups[a.Group] == nil {
			return fmt.Errorf("no such group ('%s')", a.Group)
		}
		of, name = &node.groups, a.Group
	case a.Token != "" && a.User == "" && a.Group == "":
		if s.token(a.Token) == nil {
			return fmt.Errorf("no such token '%s'", a.Token)
		}
		of, name = &node.tokens, a.Token
	default:
		return fmt.Errorf("an ACL entry names one user, group or token")
	}
	if *of == nil {
		*of = map[string]map[string]bool{}
	}
	if grant {
		if (*of)[name] == nil {
			(*of)[name] = map[string]bool{}
		}
		(*of)[name][a.Role] = !a.NoPropagate
	} else {
		delete((*of)[name], a.Role)
		if len((*of)[name]) == 0 {
			delete(*of, name)
		}
	}
	s.forget()
	return nil
}

// forEach walks the tree in no particular order.
func (n *aclNode) forEach(path string, visit func(path string, n *aclNode)) {
	visit(path, n)
	if path == "/" {
		path = ""
	}
	for name, child := range n.children {
		child.forEach(path+"/"+name, visit)
	}
}

// removeACL drops all entries of one user, group or token.
func (s *accessState) removeACL(name string, of func(*aclNode) map[string]map[string]bool) {
	s.acl.forEach("/", func(_ string, n *aclNode) { delete(of(n), name) })
	s.forget()
}

// rolesOn is AccessControl.pm's roles: the roles that one user or token has on a path, and whether each propagates.
// Walking down from the root, the entries of a level replace all that came from above; at one level a token's own
// entries win over a user's, and a user's over those of groups. A level without an applicable entry changes nothing, so
// an entry that does not propagate is invisible below its own path. NoAccess silences the other roles.
func (s *accessState) rolesOn(id, path string) map[string]bool {
	if user, _, ok := strings.Cut(id, "!"); ok {
		t := s.token(id)
		if t == nil {
			return nil
		}
		if !t.privsep {
			return s.rolesOn(user, path)
		}
	}
	var segments []string
	if trimmed := strings.Trim(path, "/"); trimmed != "" {
		segments = strings.Split(trimmed, "/")
	}
	var roles map[string]bool
	node := &s.acl
	for level := 0; node != nil; level++ {
		final := level == len(segments)
		if found := node.applicable(s, id, final); found != nil {
			roles = found
		}
		if final {
			break
		}
		node = node.children[segments[level]]
	}
	if propagates, ok := roles["NoAccess"]; ok {
		return map[string]bool{"NoAccess": propagates}
	}
	return roles
}

// applicable are the roles that one level gives, nil if it has no say.
func (n *aclNode) applicable(s *accessState, id string, final bool) map[string]bool {
	var found map[string]bool
	take := func(roles map[string]bool) {
		for role, propagates := range roles {
			if final || propagates {
				if found == nil {
					found = map[string]bool{}
				}
				found[role] = propagates
			}
		}
	}
	if take(n.tokens[id]); found != nil {
		return found
	}
	if take(n.users[id]); found != nil {
		return found
	}
	for name, roles := range n.groups {
		if g := s.groups[name]; g != nil && g.members[id] {
			take(roles)
		}
	}
	return found
}

// permissions is what a user or token holds on a path: a privilege is held if it is a key, and its value tells whether
// it propagates, for information only (RPCEnvironment.pm, permissions and compile_acl_path). The caller must not change
// the answer. The datacenter's lock must be held.
func (d *Datacenter) permissions(id, path string) map[string]bool {
	return d.access.permissions(id, path)
}

func (s *accessState) permissions(id, path string) map[string]bool {
	if id == rootUser {
		return s.rootPermissions
	}
	user, _, isToken := strings.Cut(id, "!")
	if isToken {
		t := s.token(id)
		if t == nil {
			return nil
		}
		if !t.privsep {
			return s.permissions(user, path)
		}
	}
	if path = normalizeACLPath(path); path == "" {
		return nil
	}
	key := [2]string{id, path}
	if held, ok := s.compiled[key]; ok {
		return held
	}
	held := map[string]bool{}
	for role, propagates := range s.rolesOn(id, path) {
		for p := range s.roles[role] {
			held[p] = held[p] || propagates
		}
	}
	if isToken && user != rootUser {
		// A separated token never holds more than its user does.
		of := s.permissions(user, path)
		maps.DeleteFunc(held, func(p string, _ bool) bool { _, ok := of[p]; return !ok })
		for p := range held {
			held[p] = held[p] && of[p]
		}
	}
	if len(s.compiled) >= 20_000 { // paths come from requests, so their number has no natural end
		s.forget()
	}
	s.compiled[key] = held
	return held
}

// forget drops what was compiled from users, groups, tokens, roles and ACL; call it after each change of them.
func (s *accessState) forget() { s.compiled = map[[2]string]map[string]bool{} }

// can tells whether who holds all of privs on an ACL path. The datacenter's lock must be held.
func (d *Datacenter) can(who *principal, path string, privs ...string) bool {
	if who == nil {
		return false
	}
	held := d.permissions(who.id, path)
	for _, p := range privs {
		if _, ok := held[p]; !ok {
			return false
		}
	}
	return true
}

// canAny tells whether who holds at least one of privs on an ACL path. The datacenter's lock must be held.
func (d *Datacenter) canAny(who *principal, path string, privs ...string) bool {
	if who == nil {
		return false
	}
	held := d.permissions(who.id, path)
	for _, p := range privs {
		if _, ok := held[p]; ok {
			return true
		}
	}
	return false
}

// need is can with PVE's refusal, which names the first privilege that is missing (RPCEnvironment.pm, check).
func (c *call) need(path string, privs ...string) error {
	held := c.dc.permissions(c.who.id, path)
	for _, p := range privs {
		if _, ok := held[p]; !ok {
			return permissionDenied(path, p)
		}
	}
	return nil
}

// needAny is canAny with PVE's refusal, which names all privileges that would do (RPCEnvironment.pm, check_any).
func (c *call) needAny(path string, privs ...string) error {
	if c.dc.canAny(c.who, path, privs...) {
		return nil
	}
	return permissionDenied(path, strings.Join(privs, "|"))
}
