package sim

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// rootUser may do everything, whatever the access control list says.
const rootUser = "root@pam"

// User is an account as world-building code gives it.
type User struct {
	ID            string // user@realm, of a realm that exists
	Password      string // "" lets nobody sign in
	Disabled      bool
	Expire        time.Time // zero: never
	Groups        []string  // groups that exist
	TOTPSecret    string    // base32; "" for none
	RecoveryCodes []string  // each in the form xxxx-xxxx-xxxx-xxxx, hexadecimal
	SecurityKey   bool      // a WebAuthn key: it is asked for, and works nowhere but in the host's own web interface
	FirstName     string
	LastName      string
	Email         string
	Comment       string
}

type user struct {
	User
	factors factors
	tokens  map[string]*token
}

// active tells whether the account may be used at all (AccessControl.pm, check_user_enabled).
func (u *user) active(now time.Time) bool {
	return u != nil && !u.Disabled && (u.Expire.IsZero() || u.Expire.After(now))
}

type group struct {
	comment string
	members map[string]bool // users
}

// token is an API token. Its value leaves the datacenter once, in the answer that creates it.
type token struct {
	value   string
	privsep bool
	expire  int64 // Unix seconds; 0: never
	comment string
}

// accessState is who there is and what they may do.
type accessState struct {
	realms     []*Realm
	authStates map[string]authState // by the token in the state parameter

	users  map[string]*user
	groups map[string]*group
	roles  map[string]privileges
	acl    aclNode

	rootPermissions map[string]bool
	compiled        map[[2]string]map[string]bool // (id, path) -> permissions
}

func newAccessState() accessState {
	s := accessState{
		realms:          builtinRealms(),
		authStates:      map[string]authState{},
		users:           map[string]*user{rootUser: {User: User{ID: rootUser}, tokens: map[string]*token{}}},
		groups:          map[string]*group{},
		roles:           maps.Clone(builtinRoles),
		rootPermissions: map[string]bool{},
	}
	for p := range builtinRoles["Administrator"] {
		s.rootPermissions[p] = true
	}
	s.forget()
	return s
}

// token finds a token by its full id, user@realm!name; nil if there is none.
func (s *accessState) token(id string) *token {
	name, t, _ := strings.Cut(id, "!")
	if u := s.users[name]; u != nil {
		return u.tokens[t]
	}
	return nil
}

// groupsOf lists the groups of a user, sorted.
func (s *accessState) groupsOf(id string) []string {
	var names []string
	for name, g := range s.groups {
		if g.members[id] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

var (
	// userID is PVE::Auth::Plugin's user_regex and realm_regex.
	userID = regexp.MustCompile(`^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$`)
	// tokenName is PVE::AccessControl's token_subid_regex.
	tokenName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.\-_]+$`)
	groupName = regexp.MustCompile(`^[A-Za-z0-9.\-_]+$`)
)

// AddUser creates an account. root@pam always exists; adding it sets its properties.
func (d *Datacenter) AddUser(u User) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !userID.MatchString(u.ID) || len(u.ID) > 64 || d.access.realm(realmOf(u.ID)) == nil {
		return fmt.Errorf("invalid user id %q", u.ID)
	}
	if d.access.users[u.ID] != nil && u.ID != rootUser {
		return fmt.Errorf("user '%s' already exists", u.ID)
	}
	return d.access.setUser(u)
}

// SetUser replaces the properties, groups and second factors of an account. Its tokens and ACL entries stay.
func (d *Datacenter) SetUser(u User) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.access.users[u.ID] == nil {
		return fmt.Errorf("no such user ('%s')", u.ID)
	}
	return d.access.setUser(u)
}

// DisableUser takes effect on the next request of every ticket and token of the account.
func (d *Datacenter) DisableUser(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.access.users[id]
	if u == nil {
		return fmt.Errorf("no such user ('%s')", id)
	}
	u.Disabled = true
	return nil
}

func (s *accessState) setUser(u User) error {
	factors, err := newFactors(u.TOTPSecret, u.RecoveryCodes, u.SecurityKey)
	if err != nil {
		return fmt.Errorf("user %s: %w", u.ID, err)
	}
	for _, g := range u.Groups {
		if s.groups[g] == nil {
			return fmt.Errorf("no such group ('%s')", g)
		}
	}
	tokens := map[string]*token{}
	if old := s.users[u.ID]; old != nil {
		tokens = old.tokens
	}
	for _, g := range s.groups {
		delete(g.members, u.ID)
	}
	for _, g := range u.Groups {
		s.groups[g].members[u.ID] = true
	}
	s.users[u.ID] = &user{User: u, factors: factors, tokens: tokens}
	s.forget()
	return nil
}

// RemoveUser deletes an account with its tokens and ACL entries.
func (d *Datacenter) RemoveUser(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.access
	u := s.users[id]
	if u == nil || id == rootUser {
		return fmt.Errorf("no such user ('%s')", id)
	}
	for t := range u.tokens {
		s.removeACL(id+"!"+t, func(n *aclNode) map[string]map[string]bool { return n.tokens })
	}
	s.removeACL(id, func(n *aclNode) map[string]map[string]bool { return n.users })
	for _, g := range s.groups {
		delete(g.members, id)
	}
	delete(s.users, id)
	return nil
}

// AddGroup creates a group without members; users name their groups.
func (d *Datacenter) AddGroup(name, comment string) error {
	if !groupName.MatchString(name) {
		return fmt.Errorf("group name '%s' contains invalid characters", name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.access.groups[name] != nil {
		return fmt.Errorf("group '%s' already exists", name)
	}
	d.access.groups[name] = &group{comment: comment, members: map[string]bool{}}
	return nil
}

// AddRole creates a role of one's own beside the built-in ones.
func (d *Datacenter) AddRole(name string, privs ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.access.roles[name]; ok || !groupName.MatchString(name) {
		return fmt.Errorf("role '%s' is invalid or exists", name)
	}
	set := privileges{}
	for _, p := range privs {
		if !builtinRoles["Administrator"][p] {
			return fmt.Errorf("invalid privilege '%s'", p)
		}
		set[p] = true
	}
	d.access.roles[name] = set
	return nil
}

// AddToken creates an API token and returns its secret, the part of the credential behind "user@realm!name=". A zero
// expire means never.
func (d *Datacenter) AddToken(user, name string, privsep bool, expire time.Time) (secret string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := &token{privsep: privsep}
	if !expire.IsZero() {
		t.expire = expire.Unix()
	}
	return d.access.addToken(user, name, t)
}

func (s *accessState) addToken(id, name string, t *token) (secret string, err error) {
	u := s.users[id]
	if u == nil {
		return "", fmt.Errorf("no such user ('%s')", id)
	}
	if !tokenName.MatchString(name) {
		return "", fmt.Errorf("invalid token name %q", name)
	}
	if u.tokens[name] != nil {
		return "", fmt.Errorf("token %s!%s already exists", id, name)
	}
	t.value = newUUID()
	u.tokens[name] = t
	s.forget()
	return t.value, nil
}

// newUUID is a random UUID (version 4), the form of PVE's token values.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
