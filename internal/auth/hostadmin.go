package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// HostView is a login host as owners see it.
type HostView struct {
	ID          string    `json:"id"`
	Host        string    `json:"host"`
	Port        int       `json:"port"`
	Datacenter  string    `json:"datacenter" doc:"Berth's own id; hosts of one datacenter vouch for the same accounts"`
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the certificate that was accepted last"`
	Pinned      bool      `json:"pinned" doc:"false when the certificate verifies against the certificate authorities"`
	Created     time.Time `json:"created"`
	// Yours is set for the login hosts of the owner's own datacenter.
	Yours bool `json:"yours"`
}

// Address is host and port for people.
func (v HostView) Address() string { return pve.Address{Host: v.Host, Port: v.Port}.String() }

func viewOf(h LoginHost, of session.Identity) HostView {
	return HostView{
		ID: h.ID, Host: h.Address.Host, Port: h.Address.Port, Datacenter: h.Datacenter, Fingerprint: h.Fingerprint.String(),
		Pinned: h.Key != nil, Created: h.Created, Yours: h.Datacenter == of.Datacenter,
	}
}

// HostList is the answer to ListHosts.
type HostList struct {
	Items []HostView `json:"items"`
}

// ListHosts is the authenticated action that shows owners the login hosts.
func (s *Service) ListHosts(ctx context.Context, caller session.Caller, _ None) (HostList, error) {
	if err := s.requireOwner(ctx, caller); err != nil {
		return HostList{}, err
	}
	hosts, err := s.hosts.store.LoginHosts(ctx)
	if err != nil {
		return HostList{}, fault.StoreDown(err)
	}
	list := HostList{Items: make([]HostView, 0, len(hosts))}
	for _, h := range hosts {
		list.Items = append(list.Items, viewOf(h, caller.Identity))
	}
	return list, nil
}

// AddHostInput names an address that shall be one more login host of the owner's datacenter.
type AddHostInput struct {
	Host string `json:"host" doc:"a name, an IP address, or the address of its web interface as pasted"`
	Port Port   `json:"port,omitzero"`
}

// Validate reports every field that can't be right.
func (in AddHostInput) Validate() error {
	_, err := in.address()
	return err
}

func (in AddHostInput) address() (pve.Address, error) { return checkAddress(in.Host, in.Port) }

// checkAddress reads an address as two form fields give it.
func checkAddress(host string, port Port) (pve.Address, error) {
	fields := map[string]string{}
	at := ReadAddress(host, port, fields)
	return at, fault.InvalidInput(fields)
}

// limitProbe is for looks at what the hosts of owners present: each tells whether something answers at an address that the
// owner chose.
var limitProbe = Limit{Name: "probe", Free: 20, First: time.Second, Longest: time.Minute}

// probe asks whether the caller may look at one more host, by address and by identity.
func (s *Service) probe(ctx context.Context, caller session.Caller) error {
	_, err := s.throttle.take(ctx, nil, counter(limitProbe, network(session.ClientFrom(ctx).Address)),
		counter(limitProbe, caller.Identity.Datacenter, strings.ToLower(caller.Identity.UserID)))
	return err
}

// maxMembers is how many cluster members are asked for their certificates; a Proxmox VE cluster has at most about 32.
const maxMembers = 64

// AddHost is the authenticated action by which an owner adds a login host to their own datacenter. The proof sends the
// new host nothing: the certificate that it presents must be one that a known host of the datacenter names for one of
// its members.
func (s *Service) AddHost(ctx context.Context, caller session.Caller, in AddHostInput) (HostView, error) {
	at, err := in.address()
	if err != nil {
		return HostView{}, err
	}
	if err := s.requireOwner(ctx, caller); err != nil {
		return HostView{}, err
	}
	if !s.hosts.policy.permits(at) {
		return HostView{}, hostNotAllowed()
	}
	if err := s.probe(ctx, caller); err != nil {
		return HostView{}, err
	}
	named, err := s.memberCertificates(ctx, caller)
	if err != nil {
		return HostView{}, err
	}
	peer, byRoots, err := s.hosts.prove(ctx, at, named)
	if err != nil {
		return HostView{}, err
	}
	host := s.hosts.newHost(at, nil, peer.Fingerprint)
	host.Datacenter = caller.Identity.Datacenter
	if !byRoots {
		host.Key = &peer.Key
	}
	switch err := s.hosts.store.Admit(ctx, Admission{Host: &host, Joins: true}); {
	case errors.Is(err, ErrHostKnown):
		return HostView{}, &fault.Error{Kind: fault.Conflict, Code: "host_known", Message: at.String() + " is a login host already."}
	case err != nil:
		return HostView{}, fault.StoreDown(err)
	}
	s.record(ctx, caller, audit.HostAdd, at.String(), "certificate "+peer.Fingerprint.String())
	return viewOf(host, caller.Identity), nil
}

// memberCertificates are the certificates that the members of the caller's cluster name as their own.
func (s *Service) memberCertificates(ctx context.Context, caller session.Caller) (map[pve.Fingerprint]bool, error) {
	named := map[pve.Fingerprint]bool{}
	err := s.sessions.Call(ctx, caller.Session.Hash, func(ctx context.Context, ticket pve.Ticket) error {
		return s.hosts.TryIn(ctx, caller.Identity.Datacenter, caller.Session.LoginHost, func(ctx context.Context, host *pve.Host) error {
			members, err := host.Nodes(ctx, ticket)
			if err != nil {
				return err
			}
			for _, m := range members[:min(len(members), maxMembers)] {
				certificates, err := host.Certificates(ctx, ticket, m.Node)
				if pve.IsKind(err, pve.KindMemberUnreachable) {
					continue
				}
				if err != nil {
					return err
				}
				for _, c := range certificates {
					named[c.Fingerprint] = true
				}
			}
			return nil
		})
	})
	if errors.Is(err, session.ErrNone) {
		return nil, fault.SignInRequired()
	}
	return named, err
}

// prove looks at the certificate that a host presents, sending nothing but the handshake, and accepts it only if it is one
// of those named. byRoots tells that it also verifies against the roots, so that it needs no pin.
func (h *Hosts) prove(ctx context.Context, at pve.Address, named map[pve.Fingerprint]bool) (peer pve.Peer, byRoots bool, err error) {
	peer, err = h.client.Host(at, pve.Trust{}).Handshake(ctx)
	byRoots = err == nil
	var unknown *pve.CertificateError
	if errors.As(err, &unknown) {
		// What it showed is a claim until a handshake under exactly this certificate has been finished.
		peer, err = h.client.Host(at, pve.Trust{Certificate: &unknown.Peer.Fingerprint}).Handshake(ctx)
	}
	if err != nil {
		return pve.Peer{}, false, unprovenHost(at, "it does not answer with a certificate", err)
	}
	if !named[peer.Fingerprint] {
		return pve.Peer{}, false, unprovenHost(at, "it presents the certificate "+peer.Fingerprint.String()+", which no member of your cluster names as its own", nil)
	}
	if peer.Wildcard {
		return pve.Peer{}, false, unprovenHost(at, "its certificate is for many names, so another installation could present it too", nil)
	}
	return peer, byRoots, nil
}

func unprovenHost(at pve.Address, why string, cause error) error {
	return &fault.Error{
		Kind: fault.Conflict, Code: "host_not_proven",
		Message: fmt.Sprintf("%s can't be shown to belong to your Proxmox installation: %s.", at, why),
		Hint:    "The operator can add it with berth hosts add.",
		Cause:   cause,
	}
}

// HostID names a login host.
type HostID struct {
	ID string `json:"id"`
}

// Presented is what a login host presents now, beside what is pinned.
type Presented struct {
	Host HostView `json:"host"`
	// Fingerprint is what the host presents now.
	Fingerprint string `json:"fingerprint"`
	Changed     bool   `json:"changed" doc:"whether it is another certificate than the one accepted last"`
	// Refused is set when connections are refused because of it.
	Refused bool `json:"refused"`
}

// PresentedCertificate is the authenticated action that lets an owner compare the certificate that a login host presents
// with the one that was accepted last. The host is sent nothing but a handshake.
func (s *Service) PresentedCertificate(ctx context.Context, caller session.Caller, in HostID) (Presented, error) {
	if err := s.requireOwner(ctx, caller); err != nil {
		return Presented{}, err
	}
	host, err := s.loginHost(ctx, in.ID)
	if err != nil {
		return Presented{}, err
	}
	if err := s.probe(ctx, caller); err != nil {
		return Presented{}, err
	}
	peer, err := s.hosts.reach(host).Handshake(ctx)
	var changed *pve.CertificateError
	refused := errors.As(err, &changed)
	if refused {
		peer, err = changed.Peer, nil
	}
	if err != nil {
		return Presented{}, err
	}
	return Presented{
		Host: viewOf(host, caller.Identity), Fingerprint: peer.Fingerprint.String(),
		Changed: peer.Fingerprint != host.Fingerprint, Refused: refused,
	}, nil
}

func (s *Service) loginHost(ctx context.Context, id string) (LoginHost, error) {
	host, err := s.hosts.store.LoginHost(ctx, id)
	switch {
	case errors.Is(err, ErrNoHost):
		return LoginHost{}, fault.NoSuch("login host")
	case err != nil:
		return LoginHost{}, fault.StoreDown(err)
	}
	return host, nil
}

// RepinHostInput confirms the certificate that a login host presents now.
type RepinHostInput struct {
	ID          string `json:"id"`
	Fingerprint string `json:"fingerprint" doc:"SHA-256 fingerprint that the host presents and that was compared"`
}

// Validate reports every field that can't be right.
func (in RepinHostInput) Validate() error {
	if _, err := pve.ParseFingerprint(in.Fingerprint); err != nil {
		return fault.InvalidInput(map[string]string{"fingerprint": badFingerprint})
	}
	return nil
}

// RepinHost is the authenticated action by which an owner pins a login host anew. The host must present the confirmed
// certificate at that moment.
func (s *Service) RepinHost(ctx context.Context, caller session.Caller, in RepinHostInput) (HostView, error) {
	if err := in.Validate(); err != nil {
		return HostView{}, err
	}
	if err := s.requireOwner(ctx, caller); err != nil {
		return HostView{}, err
	}
	host, err := s.loginHost(ctx, in.ID)
	if err != nil {
		return HostView{}, err
	}
	confirmed, err := pve.ParseFingerprint(in.Fingerprint)
	if err != nil {
		return HostView{}, err
	}
	if err := s.probe(ctx, caller); err != nil {
		return HostView{}, err
	}
	before := host.Fingerprint
	if host, err = s.hosts.Repin(ctx, host, confirmed); err != nil {
		var changed *pve.CertificateError
		if errors.As(err, &changed) {
			return HostView{}, &fault.Error{
				Kind: fault.Conflict, Code: "certificate_unknown", Message: "The host presents another certificate than the one that was confirmed. Compare again.",
				Details: map[string]any{"fingerprint": changed.Peer.Fingerprint.String()}, Cause: err,
			}
		}
		return HostView{}, err
	}
	s.record(ctx, caller, audit.HostRepin, host.Address.String(), "certificate "+before.String()+" replaced by "+confirmed.String())
	return viewOf(host, caller.Identity), nil
}

// Repin pins a login host to the public key of the certificate that was confirmed and that it presents now. Only an owner
// or the operator may ask for it.
func (h *Hosts) Repin(ctx context.Context, host LoginHost, confirmed pve.Fingerprint) (LoginHost, error) {
	peer, err := h.client.Host(host.Address, pve.Trust{Certificate: &confirmed}).Handshake(ctx)
	if err != nil {
		return LoginHost{}, err
	}
	host.Key, host.Fingerprint = &peer.Key, peer.Fingerprint
	if err := h.store.PinHost(ctx, host.ID, host.Key, host.Fingerprint); err != nil {
		return LoginHost{}, fault.StoreDown(err)
	}
	return host, nil
}

// RemoveHost is the authenticated action by which an owner removes a login host; the sessions there end. The last one
// stays.
func (s *Service) RemoveHost(ctx context.Context, caller session.Caller, in HostID) (HostView, error) {
	if err := s.requireOwner(ctx, caller); err != nil {
		return HostView{}, err
	}
	host, err := s.loginHost(ctx, in.ID)
	if err != nil {
		return HostView{}, err
	}
	switch err := s.hosts.store.RemoveHost(ctx, host.ID); {
	case errors.Is(err, ErrLastHost):
		return HostView{}, &fault.Error{Kind: fault.Conflict, Code: "last_host", Message: "The last login host can't be removed: nobody could sign in any more."}
	case errors.Is(err, ErrNoHost):
		return HostView{}, fault.NoSuch("login host")
	case err != nil:
		return HostView{}, fault.StoreDown(err)
	}
	s.sessions.ForgetHost(host.ID)
	s.record(ctx, caller, audit.HostRemove, host.Address.String(), "")
	return viewOf(host, caller.Identity), nil
}

// record notes what an owner did to a login host.
func (s *Service) record(ctx context.Context, caller session.Caller, action audit.Action, target, detail string) {
	s.audit.Record(ctx, audit.Entry{Identity: caller.Identity, Action: action, Target: target, Detail: detail})
}
