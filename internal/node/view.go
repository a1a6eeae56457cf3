package node

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// View is a node as its owner sees it. No secret is part of it.
type View struct {
	ID          string     `json:"id,omitempty"`
	Name        string     `json:"name,omitempty" example:"attic"`
	Host        string     `json:"host,omitempty"`
	Port        int        `json:"port,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty" doc:"SHA-256 of the certificate that was accepted last"`
	Pinned      bool       `json:"pinned" doc:"false when the certificate verifies against the certificate authorities, or is pinned with the login host"`
	IsDefault   bool       `json:"isDefault"`
	Credential  Credential `json:"credential,omitempty" enum:"session,made,token"`
	LoginHost   string     `json:"loginHost,omitempty" doc:"id of the login host that the node leads to, or whose sign-in made its token"`
	TokenID     string     `json:"tokenId,omitempty" example:"root@pam!berth"`
	// TokenExpires is known of tokens that Berth made.
	TokenExpires time.Time `json:"tokenExpires,omitzero"`
	// SameAs are the other nodes of the same installation.
	SameAs []string `json:"sameAs,omitempty" doc:"ids of your other nodes that lead to the same Proxmox installation; its containers are listed once"`
	// PerhapsSameAs are those that look so, and nobody has said yet whether they are.
	PerhapsSameAs []string `json:"perhapsSameAs,omitempty" doc:"ids of your other nodes that look as if they led to the same Proxmox installation: say so, or not, by a change of sameAs"`
}

// Address is host and port for people.
func (v View) Address() string { return pve.Address{Host: v.Host, Port: v.Port}.String() }

func viewOf(r Record, all []Record) View {
	v := View{
		ID: r.ID, Name: r.Name, Host: r.Address.Host, Port: r.Address.Port, Pinned: r.Key != nil, IsDefault: r.IsDefault,
		Credential: r.Credential, LoginHost: r.LoginHost, TokenID: r.TokenID, TokenExpires: r.TokenExpires,
	}
	if r.Fingerprint != (pve.Fingerprint{}) {
		v.Fingerprint = r.Fingerprint.String()
	}
	for _, other := range all {
		switch {
		case other.ID == r.ID:
		case other.Group == r.Group:
			v.SameAs = append(v.SameAs, other.ID)
		case newer(r, other).SaidGroup == "" && alike(r, other):
			v.PerhapsSameAs = append(v.PerhapsSameAs, other.ID)
		}
	}
	return v
}

// newer is the later made of two nodes: it is the one of which is asked whether it leads where the other does.
func newer(a, b Record) Record {
	if cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) > 0 {
		return a
	}
	return b
}

// LoginHost is one that the caller's own sign-in is good for.
type LoginHost struct {
	ID   string `json:"id"`
	Host string `json:"host"`
	Port int    `json:"port"`
}

// Address is host and port for people.
func (h LoginHost) Address() string { return pve.Address{Host: h.Host, Port: h.Port}.String() }

// LeftOver is an API token that Berth made on a host, that no node uses, and that is still there as far as Berth knows.
type LeftOver struct {
	ID       string    `json:"id"`
	NodeName string    `json:"nodeName" doc:"what the node was called that it was made for"`
	Host     string    `json:"host"`
	Port     int       `json:"port"`
	TokenID  string    `json:"tokenId"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires" doc:"from then on it is of no use to anybody"`
	// Certain is false when Berth does not know whether the token was made at all.
	Certain bool `json:"certain"`
	// BySignIn says that the caller's own sign-in can remove it; else a password is needed.
	BySignIn bool   `json:"bySignIn"`
	Command  string `json:"command" doc:"what removes it in the host's shell"`
}

// Address is host and port for people.
func (l LeftOver) Address() string { return pve.Address{Host: l.Host, Port: l.Port}.String() }

// List of nodes, as GET /api/nodes answers.
type NodeList struct {
	Items      []View      `json:"items"`
	LoginHosts []LoginHost `json:"loginHosts" doc:"those that your own sign-in is good for"`
	LeftOver   []LeftOver  `json:"leftOver"`
	Most       int         `json:"most" doc:"how many nodes you can have"`
}

// ID names a node.
type ID struct {
	ID string `json:"-" path:"id" doc:"id of the node"`
}

// Nodes is the authenticated action that lists the caller's nodes. No host is asked for it.
func (s *Service) Nodes(ctx context.Context, caller session.Caller, _ auth.None) (NodeList, error) {
	records, err := s.records(ctx, caller)
	if err != nil {
		return NodeList{}, err
	}
	hosts, err := s.loginHosts(ctx, caller.Identity)
	if err != nil {
		return NodeList{}, err
	}
	list := NodeList{Items: make([]View, 0, len(records)), LoginHosts: make([]LoginHost, 0, len(hosts)), LeftOver: []LeftOver{}, Most: s.most}
	for _, r := range records {
		list.Items = append(list.Items, viewOf(r, records))
	}
	for _, h := range hosts {
		list.LoginHosts = append(list.LoginHosts, LoginHost{ID: h.ID, Host: h.Address.Host, Port: h.Address.Port})
	}
	made, err := s.store.MadeTokens(ctx, caller.Identity)
	if err != nil {
		return NodeList{}, fault.StoreDown(err)
	}
	for _, t := range made {
		if s.leftOver(t) {
			list.LeftOver = append(list.LeftOver, leftOverView(t, caller))
		}
	}
	return list, nil
}

// ShowNode is the authenticated action that shows one of the caller's nodes.
func (s *Service) ShowNode(ctx context.Context, caller session.Caller, in ID) (View, error) {
	records, err := s.records(ctx, caller)
	if err != nil {
		return View{}, err
	}
	i := slices.IndexFunc(records, func(r Record) bool { return r.ID == in.ID })
	if i < 0 {
		return View{}, fault.NoSuch("node")
	}
	return viewOf(records[i], records), nil
}

// Status is how a node is just now.
type Status struct {
	// Rights are what its credential may do, nil if they are not known.
	Rights []Right
	// Err is why the node can't be used; see Problem.
	Err error
}

const (
	// statusPatience is how long a page waits for nodes that don't answer.
	statusPatience = 3 * time.Second
	atOnce         = 8
)

// Statuses asks all of the caller's nodes what they let the caller do, at the same time, and waits 3 s for the slowest.
func (s *Service) Statuses(ctx context.Context, caller session.Caller) (map[string]Status, error) {
	records, err := s.records(ctx, caller)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	statuses := map[string]Status{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, r := range records {
		wg.Go(func() {
			var status Status
			select {
			case slots <- struct{}{}:
				var held pve.Permissions
				if held, status.Err = s.Rights(ctx, caller, r.ID); status.Err == nil {
					status.Rights = rightsOf(held)
				}
				<-slots
			case <-ctx.Done():
				status.Err = ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[r.ID] = status
		})
	}
	wg.Wait()
	return statuses, nil
}

// splitTokenID is the user and the token's own name.
func splitTokenID(id string) (user, name string) {
	user, name, _ = strings.Cut(id, "!")
	return user, name
}
