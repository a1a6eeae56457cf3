package auth

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// Realm is one of the account databases of a datacenter.
type Realm struct {
	Name    string `json:"name" example:"pam"`
	Type    string `json:"type" doc:"pam, pve, ldap, ad or openid" example:"pam"`
	Comment string `json:"comment,omitempty"`
	Default bool   `json:"default" doc:"what the sign-in page preselects"`
	// Unavailable says why nobody can sign in with the realm here; empty when one can.
	Unavailable string `json:"unavailable,omitempty" doc:"why nobody can sign in with this realm here"`
}

// typeOpenID is the type of realms whose users sign in at an identity provider, without a password of the realm's.
const typeOpenID = "openid"

// OpenID tells whether the realm's users sign in at an identity provider.
func (r Realm) OpenID() bool { return r.Type == typeOpenID }

// builtinRealms are those that every installation has: all that is offered before a host is known.
func builtinRealms() []Realm {
	return []Realm{
		{Name: "pam", Type: "pam", Comment: "Linux PAM", Default: true},
		{Name: "pve", Type: "pve", Comment: "Proxmox VE"},
	}
}

const (
	// realmsLife is how long a host's list of realms holds, realmsPause how long a host is not asked again that gave none.
	realmsLife  = 5 * time.Minute
	realmsPause = 30 * time.Second
	// realmsWait is how long somebody waits for the list; the sign-in page does without it then.
	realmsWait = 2 * time.Second
	// realmsTime bounds the asking itself.
	realmsTime = 10 * time.Second
	// maxRealms bounds what is offered of a host's list.
	maxRealms = 100
	// maxRealmHosts bounds the login hosts whose lists are remembered.
	maxRealmHosts = 256
)

// limitRealms is for lists of realms, which are asked for without a sign-in.
var limitRealms = Limit{Name: "realms", Free: 60, First: time.Second, Longest: 10 * time.Second}

// realmName is PVE::Auth::Plugin's realm_regex, with the length that every call of PVE sets (pve-realm, maxLength 32).
var realmName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{1,31}$`)

// realmCache remembers the lists of login hosts, by their ids. Its zero value is empty.
type realmCache struct {
	mu    sync.Mutex
	hosts map[string]*realmEntry
}

type realmEntry struct {
	list    []Realm // nil until the host gave one
	until   time.Time
	reading chan struct{} // closed when the list that is being read is there; nil when none is
}

// read returns what is remembered of a host, and asks for it anew where that is too old. It waits for the answer only when
// nothing is remembered.
func (c *realmCache) read(ctx context.Context, id string, now func() time.Time, ask func(context.Context) ([]Realm, error)) []Realm {
	c.mu.Lock()
	e := c.hosts[id]
	if e == nil {
		if c.hosts == nil {
			c.hosts = map[string]*realmEntry{}
		}
		c.makeRoom(now())
		e = &realmEntry{}
		c.hosts[id] = e
	}
	if e.reading == nil && !now().Before(e.until) {
		e.reading = make(chan struct{})
		// Whoever asked first may go; others wait for the same answer.
		go c.refresh(context.WithoutCancel(ctx), e, now, ask)
	}
	list, reading := e.list, e.reading
	c.mu.Unlock()
	if list != nil || reading == nil {
		return list
	}
	patience := time.NewTimer(realmsWait)
	defer patience.Stop()
	select {
	case <-reading:
	case <-patience.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return e.list
}

func (c *realmCache) refresh(ctx context.Context, e *realmEntry, now func() time.Time, ask func(context.Context) ([]Realm, error)) {
	ctx, cancel := context.WithTimeout(ctx, realmsTime)
	defer cancel()
	list, err := ask(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	e.until = now().Add(realmsPause)
	if err == nil {
		e.list, e.until = list, now().Add(realmsLife)
	}
	close(e.reading)
	e.reading = nil
}

// makeRoom lets go of one entry when there are too many: one whose time has passed if there is any.
func (c *realmCache) makeRoom(now time.Time) {
	if len(c.hosts) < maxRealmHosts {
		return
	}
	victim := ""
	for id, e := range c.hosts {
		if victim = id; !now.Before(e.until) {
			break
		}
	}
	delete(c.hosts, victim)
}

// realmsOf is the list of a known login host; nil when it could not be had.
func (s *Service) realmsOf(ctx context.Context, known LoginHost) []Realm {
	return s.realms.read(ctx, known.ID, s.now, func(ctx context.Context) (list []Realm, err error) {
		err = s.hosts.tryFrom(ctx, known, func(ctx context.Context, _ LoginHost, host *pve.Host) error {
			domains, err := host.Domains(ctx)
			list = readRealms(domains)
			return err
		})
		return list, err
	})
}

// readRealms takes of a host's list what PVE itself would put there. A list without a default has the same as PVE's own
// page.
func readRealms(domains []pve.Domain) []Realm {
	list := []Realm{}
	chosen := false
	for _, d := range domains {
		known := slices.ContainsFunc(list, func(r Realm) bool { return r.Name == d.Realm })
		if known || !realmName.MatchString(d.Realm) {
			continue
		}
		if len(list) == maxRealms {
			break
		}
		list = append(list, Realm{Name: d.Realm, Type: d.Type, Comment: d.Comment, Default: d.Default && !chosen})
		chosen = chosen || d.Default
	}
	slices.SortStableFunc(list, func(a, b Realm) int { return strings.Compare(a.Name, b.Name) })
	if i := slices.IndexFunc(list, func(r Realm) bool { return r.Name == defaultRealm }); !chosen && i >= 0 {
		list[i].Default = true
	}
	return list
}

// knownHost is the login host at an address that may be contacted for signing in, or nil.
func (s *Service) knownHost(ctx context.Context, at pve.Address) (*LoginHost, error) {
	known, err := s.known(ctx, at)
	if err != nil || known == nil || !s.hosts.policy.permits(at) {
		return nil, err
	}
	return known, nil
}

// RealmsInput names the host whose realms are asked for.
type RealmsInput struct {
	Host string `json:"host,omitempty" doc:"without one, the answer is the realms of every installation"`
	Port Port   `json:"port,omitzero"`
}

// Validate reports every field that can't be right.
func (in RealmsInput) Validate() error {
	fields := map[string]string{}
	if strings.TrimSpace(in.Host) == "" {
		return nil
	}
	ReadAddress(in.Host, in.Port, fields)
	return fault.InvalidInput(fields)
}

// RealmList is the answer to ListRealms.
type RealmList struct {
	Items []Realm `json:"items"`
}

// ListRealms is the public action that tells which realms people can sign in with at a host. Only a known login host is
// asked; for any other one the answer is pam and pve, and nothing is looked up or sent.
func (s *Service) ListRealms(ctx context.Context, in RealmsInput) (RealmList, error) {
	if err := in.Validate(); err != nil {
		return RealmList{}, err
	}
	if _, err := s.throttle.take(ctx, nil, counter(limitRealms, network(session.ClientFrom(ctx).Address))); err != nil {
		return RealmList{}, err
	}
	list, err := s.Realms(ctx, in)
	return RealmList{Items: list}, err
}

// Realms is ListRealms for the sign-in page. What is no address, or no known one, has the realms of every installation.
func (s *Service) Realms(ctx context.Context, in RealmsInput) ([]Realm, error) {
	at := ReadAddress(in.Host, in.Port, map[string]string{})
	if at == (pve.Address{}) {
		return builtinRealms(), nil
	}
	known, err := s.knownHost(ctx, at)
	if err != nil {
		return nil, err
	}
	if known == nil {
		return builtinRealms(), nil
	}
	list := slices.Clone(s.realmsOf(ctx, *known))
	if len(list) == 0 {
		return builtinRealms(), nil
	}
	for i := range list {
		if list[i].OpenID() {
			if list[i].Unavailable, err = s.openIDUnavailable(ctx); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// place finds out which realm a sign-in is for. What follows the last @ of the user name wins if it is a realm of the host,
// be it that somebody typed the whole user id.
func (s *Service) place(ctx context.Context, c credentials) (credentials, error) {
	known, err := s.knownHost(ctx, c.address)
	if err != nil {
		return c, err
	}
	realms := builtinRealms()
	if known != nil && (!isBuiltin(c.realm) || strings.Contains(c.name, "@")) {
		if list := s.realmsOf(ctx, *known); list != nil {
			realms = list
		}
	}
	named := func(name string) *Realm {
		if i := slices.IndexFunc(realms, func(r Realm) bool { return r.Name == name }); i >= 0 {
			return &realms[i]
		}
		return nil
	}
	if at := strings.LastIndexByte(c.name, '@'); at >= 0 && (named(c.name[at+1:]) != nil || known != nil && c.name[at+1:] == c.realm) {
		c.name, c.realm = c.name[:at], c.name[at+1:]
	}
	c.userID = c.name + "@" + c.realm
	fields := map[string]string{}
	switch r := named(c.realm); {
	case r != nil && r.OpenID():
		c.openID = true
		return c, nil
	case known == nil && !isBuiltin(c.realm):
		// Whether the host has this realm is not known, and nothing is sent to find out.
		fields["realm"] = unknownRealm
	case c.name == "":
		fields["username"] = "Username is required"
	case len(c.userID) > maxUserID:
		fields["username"] = longUserName
	}
	return c, fault.InvalidInput(fields)
}

func isBuiltin(realm string) bool {
	return slices.ContainsFunc(builtinRealms(), func(r Realm) bool { return r.Name == realm })
}
