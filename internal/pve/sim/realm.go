package sim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Realm is an authentication realm as world-building code gives it: an entry of /etc/pve/domains.cfg.
type Realm struct {
	Name    string
	Type    string // ldap, ad or openid; every datacenter has pam and pve
	Comment string
	Default bool // what sign-in pages preselect
	// IgnoreCase is the setting case-sensitive=0: users may write their name in any case, and are answered in the
	// account's own spelling (AccessControl.pm, lookup_username).
	IgnoreCase bool

	// The rest is for openid. Provider knows the realm's users, under a client id and secret of the realm's own.
	Provider *IdentityProvider
	// Autocreate makes an account of whoever the provider vouches for; otherwise it has to exist.
	Autocreate bool
	// AuthorizationEndpoint stands in for the provider's own address of that name, for hosts that lead people astray.
	AuthorizationEndpoint string
	// Impersonates is the user id that everybody gets a ticket of, for hosts that lie about who came.
	Impersonates string

	clientID, clientSecret string
}

// builtinRealms are those of a fresh installation.
func builtinRealms() []*Realm {
	return []*Realm{
		{Name: "pam", Type: "pam", Comment: "Linux PAM standard authentication"},
		{Name: "pve", Type: "pve", Comment: "Proxmox VE authentication server"},
	}
}

// realmName is PVE::Auth::Plugin's realm_regex.
var realmName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.\-_]+$`)

// realmOf is what follows the last @.
func realmOf(id string) string { return id[strings.LastIndexByte(id, '@')+1:] }

// realm finds a realm by name; nil if there is none.
func (s *accessState) realm(name string) *Realm {
	for _, r := range s.realms {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// AddRealm adds a realm without users.
func (d *Datacenter) AddRealm(r Realm) error {
	switch {
	case !realmName.MatchString(r.Name) || len(r.Name) > 32:
		return fmt.Errorf("invalid realm %q", r.Name)
	case !slices.Contains([]string{"ldap", "ad", "openid"}, r.Type):
		return fmt.Errorf("realm %s can't be of the type %q", r.Name, r.Type)
	case (r.Type == "openid") != (r.Provider != nil):
		return fmt.Errorf("realm %s: an identity provider is for the type openid, which needs one", r.Name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.access.realm(r.Name) != nil {
		return fmt.Errorf("realm '%s' already exists", r.Name)
	}
	if r.Provider != nil {
		r.clientID, r.clientSecret = r.Provider.newClient()
	}
	if r.Default {
		for _, other := range d.access.realms {
			other.Default = false // as domains.cfg is written (Auth/Plugin.pm, write_config)
		}
	}
	d.access.realms = append(d.access.realms, &r)
	return nil
}

// account finds a user by the name that somebody signs in with, and that user's id.
func (s *accessState) account(name string) (*user, string) {
	if u := s.users[name]; u != nil {
		return u, name
	}
	if r := s.realm(realmOf(name)); r != nil && r.IgnoreCase {
		for id, u := range s.users {
			if strings.EqualFold(id, name) {
				return u, id
			}
		}
	}
	return nil, name
}

// listDomains is public, because sign-in pages need it (API2/Domains.pm, index).
func listDomains(c *call) (any, error) {
	list := []map[string]any{}
	for _, r := range c.dc.access.realms {
		m := map[string]any{"realm": r.Name, "type": r.Type}
		setIf(m, "comment", r.Comment)
		if r.Default {
			m["default"] = 1
		}
		list = append(list, m)
	}
	return list, nil
}
