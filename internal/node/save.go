package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/audit"
	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// DefaultMost is how many nodes an identity can have, unless the operator says otherwise.
const DefaultMost = 50

// testTime bounds a test; two refusals, of 3 s each, fit into it.
const testTime = 20 * time.Second

// Saved is the answer to an addition, a change or a test: the node, or the question for a second factor.
type Saved struct {
	View
	// TFA is set, and nothing was saved, when the sign-in at the host needs its second step.
	TFA *auth.SecondFactor `json:"tfa,omitempty"`
	// Rights are what the credential may do, after a test.
	Rights  []Right `json:"rights,omitempty"`
	Version string  `json:"version,omitempty" doc:"of Proxmox VE, after a test"`
	Warning string  `json:"warning,omitempty" doc:"what is not as it should be, and no reason to refuse the node"`
}

// found is what a test found.
type found struct {
	peer    pve.Peer
	name    string // what the installation calls itself; empty if it does not tell
	version pve.Version
	held    pve.Permissions
	rights  []Right
	members Members
}

// inspect tests a way: whether Proxmox VE is there, takes the credential, and what it lets it do.
func inspect(ctx context.Context, w way) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	var f found
	err := w(ctx, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
		f = found{}
		if f.version, err = host.Version(ctx, with); err != nil {
			return err
		}
		if f.held, err = host.Permissions(ctx, with); err != nil {
			return err
		}
		f.rights = rightsOf(f.held)
		if f.members, err = readMembers(ctx, host, with); err != nil {
			slog.InfoContext(ctx, "installation behind a node not read", "host", host.Address(), "cause", err)
		}
		f.name = ownName(ctx, host, with, f.members)
		f.peer, _ = host.Peer() // there was an answer, so there is one
		f.members.Shared = f.peer.Wildcard
		return nil
	})
	return f, err
}

// test is inspect with its refusals in words for people.
func (s *Service) test(ctx context.Context, p plan, w way) (found, error) {
	f, err := inspect(ctx, w)
	switch {
	case err != nil:
		return found{}, refused(p, err)
	case !canList(f.rights):
		return found{}, cannotList(p, f)
	}
	return f, nil
}

// withLoginHost fills in where the login host of a plan is, if it has one: only one of the caller's own datacenter.
func (s *Service) withLoginHost(ctx context.Context, caller session.Caller, p plan) (plan, error) {
	if p.loginHost == "" {
		return p, nil
	}
	hosts, err := s.loginHosts(ctx, caller.Identity)
	if err != nil {
		return plan{}, err
	}
	i := slices.IndexFunc(hosts, func(h auth.LoginHost) bool { return h.ID == p.loginHost })
	if i < 0 {
		return plan{}, fault.InvalidInput(map[string]string{"loginHost": "This is not one of the login hosts that your sign-in is good for"})
	}
	p.address, p.userID, p.trust.Key = hosts[i].Address, caller.Identity.UserID, hosts[i].Key
	return p, nil
}

// prepare checks what can be checked of a plan without its host.
func (s *Service) prepare(ctx context.Context, caller session.Caller, in Settings, before *Record) (plan, error) {
	p, err := in.plan(before)
	if err != nil {
		return plan{}, err
	}
	if p, err = s.withLoginHost(ctx, caller, p); err != nil {
		return plan{}, err
	}
	if p.name == "" {
		p.unnamed = true
		p.name, err = s.freeName(ctx, caller, p.address)
	}
	return p, err
}

// ownName is what an installation calls itself: the cluster's name, or that of a host on its own. Without the right to
// read a cluster's name it is empty.
func ownName(ctx context.Context, host *pve.Host, with pve.Credentials, m Members) string {
	var name string
	switch len(m.Names) {
	case 0:
	case 1:
		name = m.Names[0]
	default:
		entries, err := host.ClusterStatus(ctx, with)
		i := slices.IndexFunc(entries, func(e pve.ClusterEntry) bool { return e.Type == "cluster" })
		if err == nil && i >= 0 {
			name = entries[i].Name
		}
	}
	fields := map[string]string{}
	if name = checkName(name, fields); len(fields) > 0 || len(name) > maxName-10 {
		return ""
	}
	return name
}

// numbered is a name, with a number where other nodes have it.
func numbered(records []Record, name, id string) string {
	one := name
	for i := 2; slices.ContainsFunc(records, func(r Record) bool { return r.ID != id && strings.EqualFold(r.Name, one) }); i++ {
		one = name + " (" + strconv.Itoa(i) + ")"
	}
	return one
}

// freeName is a name for a node whose owner gave none, before its host has told its own: its address, with its port or a
// number where that is taken.
func (s *Service) freeName(ctx context.Context, caller session.Caller, at pve.Address) (string, error) {
	records, err := s.records(ctx, caller)
	if err != nil {
		return "", err
	}
	host := at.Host[:min(len(at.Host), maxName-10)]
	name := host
	for i := 1; s.free(records, name, "any") != nil; i++ {
		if name = host + ":" + strconv.Itoa(at.Port); i > 1 {
			name = host + " (" + strconv.Itoa(i) + ")"
		}
	}
	return name, nil
}

// free tells whether a node may be stored under a name, before anything is done for it; the store has the last word.
func (s *Service) free(records []Record, name, id string) error {
	if slices.ContainsFunc(records, func(r Record) bool { return r.ID != id && strings.EqualFold(r.Name, name) }) {
		return s.notStored(ErrNameTaken)
	}
	if id == "" && len(records) >= s.most {
		return s.notStored(ErrTooMany)
	}
	return nil
}

// notStored is the answer for an error of the store.
func (s *Service) notStored(err error) error {
	switch {
	case errors.Is(err, ErrNameTaken):
		return fault.InvalidInput(map[string]string{"name": "Another node of yours has this name"})
	case errors.Is(err, ErrTooMany):
		return &fault.Error{Kind: fault.Conflict, Code: "too_many_nodes", Message: fmt.Sprintf("You can have %d nodes, and have them. Remove one first.", s.most)}
	case errors.Is(err, ErrNone):
		return fault.NoSuch("node")
	case errors.Is(err, ErrChanged):
		return &fault.Error{Kind: fault.Conflict, Code: "changed_meanwhile", Message: "The node was changed meanwhile, so this was not saved.",
			Hint: "Look at it as it is now, and change it again."}
	}
	return storeDown(err)
}

// Add is the authenticated action that adds a node, after a test.
func (s *Service) Add(ctx context.Context, caller session.Caller, in AddInput) (Saved, error) {
	if in.Challenge != "" {
		if err := in.Validate(); err != nil {
			return Saved{}, err
		}
		return s.answerChallenge(ctx, caller, in.SecondStep)
	}
	records, err := s.records(ctx, caller)
	if err != nil {
		return Saved{}, err
	}
	if in.SameAs != "" {
		if err := checkSameAs(records, "", in.SameAs); err != nil {
			return Saved{}, err
		}
	}
	p, err := s.prepare(ctx, caller, in.Settings, nil)
	if err != nil {
		return Saved{}, err
	}
	if err := s.free(records, p.name, ""); err != nil {
		return Saved{}, err
	}
	if err := s.throttle.TestNode(ctx, caller.Identity); err != nil {
		return Saved{}, err
	}
	return s.open(ctx, caller, p, in.deed(DeedAdd))
}

// Change is the authenticated action that changes a node: its name and the like at once, all else after a test. Another
// address, certificate or token needs the secret again.
func (s *Service) Change(ctx context.Context, caller session.Caller, in ChangeInput) (Saved, error) {
	before, err := s.record(ctx, caller, in.ID)
	if err != nil {
		return Saved{}, err
	}
	if err := in.check(); err != nil {
		return Saved{}, err
	}
	if in.Challenge != "" {
		return s.answerChallenge(ctx, caller, in.SecondStep)
	}
	records, err := s.records(ctx, caller)
	if err != nil {
		return Saved{}, err
	}
	if in.SameAs != "" {
		if err := checkSameAs(records, before.ID, in.SameAs); err != nil {
			return Saved{}, err
		}
	}
	if !in.touches(before) {
		return s.rename(ctx, caller, before, in.Settings, records)
	}
	p, err := s.prepare(ctx, caller, in.Settings, &before)
	if err != nil {
		return Saved{}, err
	}
	if err := s.free(records, p.name, before.ID); err != nil {
		return Saved{}, err
	}
	if err := s.throttle.TestNode(ctx, caller.Identity); err != nil {
		return Saved{}, err
	}
	d := in.deed(DeedChange)
	d.Of, d.Version = before.ID, before.Version
	return s.open(ctx, caller, p, d)
}

// Tests tells whether Change would test a node before it saves a change; one that is refused anyhow counts as tested.
func (s *Service) Tests(ctx context.Context, caller session.Caller, in ChangeInput) bool {
	before, err := s.record(ctx, caller, in.ID)
	return err != nil || in.Challenge != "" || in.touches(before)
}

// rename is a change that concerns no host.
func (s *Service) rename(ctx context.Context, caller session.Caller, r Record, in Settings, records []Record) (Saved, error) {
	if name := strings.TrimSpace(in.Name); name != "" && name != r.Name {
		if err := s.free(records, name, r.ID); err != nil {
			return Saved{}, err
		}
		err := s.store.RenameNode(ctx, r.Owner, r.ID, name)
		s.changed(r.Owner)
		if err != nil {
			return Saved{}, s.notStored(err)
		}
		was := r.Name
		r.Name = name
		s.note(ctx, caller, audit.NodeChange, r, "was called "+was)
	}
	if err := s.settle(ctx, caller, r, in.deed(DeedChange)); err != nil {
		return Saved{}, err
	}
	v, err := s.ShowNode(ctx, caller, ID{r.ID})
	return Saved{View: v}, err
}

// settle is what a change ends with: whether the node is the default, and which nodes are of the same installation.
func (s *Service) settle(ctx context.Context, caller session.Caller, r Record, d Deed) error {
	if d.IsDefault && !r.IsDefault {
		if _, err := s.MakeDefault(ctx, caller, ID{r.ID}); err != nil {
			return err
		}
	}
	switch d.SameAs {
	case "":
		return nil
	case notSame:
		return s.separate(ctx, caller, r.ID)
	}
	other, err := s.record(ctx, caller, d.SameAs)
	if err != nil {
		return err
	}
	return s.putTogether(ctx, caller, cmp.Or(other.SaidGroup, newID()), r.ID, other.ID)
}

func (s *Service) putTogether(ctx context.Context, caller session.Caller, group string, ids ...string) error {
	if err := s.store.GroupNodes(ctx, caller.Identity, group, ids...); err != nil {
		return s.notStored(err)
	}
	s.changed(caller.Identity)
	return nil
}

// separate notes that a node leads where no other does, as its owner says, so that this is not asked again.
func (s *Service) separate(ctx context.Context, caller session.Caller, id string) error {
	r, err := s.record(ctx, caller, id)
	if err != nil {
		return err
	}
	records, err := s.records(ctx, caller)
	if err != nil {
		return err
	}
	asked := map[string]bool{id: true}
	for _, other := range records {
		if n := newer(r, other); n.SaidGroup == "" && other.Group != r.Group && alike(r, other) {
			asked[n.ID] = true
		}
	}
	for one := range asked {
		if err := s.putTogether(ctx, caller, newID(), one); err != nil {
			return err
		}
	}
	return nil
}

func checkSameAs(records []Record, id, other string) error {
	if other == notSame || other != id && slices.ContainsFunc(records, func(r Record) bool { return r.ID == other }) {
		return nil
	}
	return fault.InvalidInput(map[string]string{"sameAs": "This is none of your other nodes; none says that there is no such node"})
}

// save tests a plan and stores it as a node: a new one, or in place of r.
func (s *Service) save(ctx context.Context, caller session.Caller, p plan, r Record, d Deed, w way) (Saved, error) {
	before := r
	isNew := r.Credential == ""
	f, err := s.test(ctx, p, w)
	if err != nil {
		return Saved{}, err
	}
	// What was begun is brought to its end: a token may be made from here on.
	ctx = context.WithoutCancel(ctx)
	if p.unnamed && f.name != "" {
		records, err := s.records(ctx, caller)
		if err != nil {
			return Saved{}, err
		}
		p.name = numbered(records, f.name, r.ID)
	}
	r.Name, r.Address, r.Credential, r.LoginHost = p.name, p.address, p.credential, p.loginHost
	r.Fingerprint, r.Members = f.peer.Fingerprint, f.members
	r.Key, r.TokenID, r.TokenExpires, r.Secret = p.trust.Key, p.tokenID, time.Time{}, nil
	if p.trust.Certificate != nil {
		r.Key = &f.peer.Key
	}
	switch {
	case r.Credential == BySession:
		r.Key, r.Cluster = nil, caller.Identity.Datacenter
	case isNew, before.Credential == BySession, r.Address != before.Address, !sameKey(r.Key, before.Key):
		r.Cluster, r.SaidGroup = newID(), "" // what was proven or said was about another door
	}
	secret, made := p.secret, MadeToken{}
	if r.Credential == ByMadeToken {
		var token pve.Token
		if made, token, err = s.makeToken(ctx, caller, p, r, w); err != nil {
			return Saved{}, err
		}
		secret, r.TokenID, r.TokenExpires = token.Secret, made.TokenID, made.Expires
	}
	if err := s.keep(ctx, r, secret, made.ID, isNew); err != nil {
		if made.ID != "" {
			s.unmake(ctx, made, w)
		}
		s.changed(r.Owner) // what it was made from may be out of date
		return Saved{}, s.notStored(err)
	}
	s.changed(r.Owner)
	s.removeReplaced(ctx, r, p, w)
	s.lookAtOthers(ctx, caller, r)
	if err := s.join(ctx, r); err != nil {
		return Saved{}, storeDown(err)
	}
	if err := s.settle(ctx, caller, r, d); err != nil {
		return Saved{}, err
	}
	action := audit.NodeChange
	if isNew {
		action = audit.NodeAdd
	}
	s.note(ctx, caller, action, r, r.Address.String()+" with "+credentialWords(r))
	v, err := s.ShowNode(ctx, caller, ID{r.ID})
	return Saved{View: v, Rights: f.rights, Version: f.version.Version, Warning: clockWords(p.address, f.version.ClockSkew)}, err
}

func sameKey(a, b *pve.KeyPin) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// keep stores a node with its secret sealed.
func (s *Service) keep(ctx context.Context, r Record, secret, made string, isNew bool) error {
	write := func(sealed []byte) error {
		r.Secret = sealed
		if !isNew {
			return s.store.ChangeNode(ctx, r, made)
		}
		err := s.store.CreateNode(ctx, r, made, s.most)
		isNew = err != nil
		return err
	}
	if r.Credential == BySession {
		return write(nil)
	}
	return s.sealer.Keep([]byte(secret), place(r.ID), write)
}

// lookAtOthers lets the nodes that go by the session's ticket, and that nobody has tested yet, show what is behind them, so
// that another door to the same installation is recognised.
func (s *Service) lookAtOthers(ctx context.Context, caller session.Caller, saved Record) {
	records, err := s.records(ctx, caller)
	if err != nil {
		return // the caller meets the same error at once
	}
	for _, r := range records {
		if r.ID == saved.ID || r.Credential != BySession || len(r.Members.Names) > 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, statusPatience)
		f, err := inspect(ctx, func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error {
			return s.callWithTicket(ctx, caller, r.LoginHost, call)
		})
		cancel()
		if err == nil {
			err = s.noteMembers(context.WithoutCancel(ctx), r, f)
		}
		if err != nil {
			slog.InfoContext(ctx, "installation behind a node not read", "node", r.ID, "cause", err)
		}
	}
}

// noteMembers stores what a test found of the installation behind a stored node.
func (s *Service) noteMembers(ctx context.Context, r Record, f found) error {
	if len(f.members.Names) == 0 {
		return nil // it told nothing this time, which makes nothing untrue
	}
	r.Fingerprint, r.Members = f.peer.Fingerprint, f.members
	if err := s.store.NoteMembers(ctx, r); err != nil {
		return err
	}
	s.changed(r.Owner)
	return s.join(ctx, r)
}

// Test is the authenticated action that tests a node: one of the caller's as it is stored, or one as it would be, with what
// the caller gives. What is stored meets nothing that is given.
func (s *Service) Test(ctx context.Context, caller session.Caller, in TestInput) (Saved, error) {
	if err := in.Validate(); err != nil {
		return Saved{}, err
	}
	if in.Challenge != "" {
		return s.answerChallenge(ctx, caller, in.SecondStep)
	}
	if in.ID != "" {
		return s.testStored(ctx, caller, in.ID)
	}
	p, err := s.prepare(ctx, caller, in.Settings, nil)
	if err != nil {
		return Saved{}, err
	}
	if err := s.throttle.TestNode(ctx, caller.Identity); err != nil {
		return Saved{}, err
	}
	return s.open(ctx, caller, p, in.deed(DeedTest))
}

// tested tests a plan of which nothing is stored.
func (s *Service) tested(ctx context.Context, p plan, w way) (Saved, error) {
	f, err := s.test(ctx, p, w)
	if err != nil {
		return Saved{}, err
	}
	v := View{Name: p.name, Host: p.address.Host, Port: p.address.Port, Credential: p.credential, LoginHost: p.loginHost, TokenID: p.tokenID, Fingerprint: f.peer.Fingerprint.String(), Pinned: p.trust.Certificate != nil}
	return Saved{View: v, Rights: f.rights, Version: f.version.Version, Warning: clockWords(p.address, f.version.ClockSkew)}, nil
}

func (s *Service) testStored(ctx context.Context, caller session.Caller, id string) (Saved, error) {
	r, err := s.record(ctx, caller, id)
	if err != nil {
		return Saved{}, err
	}
	if err := s.throttle.TestNode(ctx, caller.Identity); err != nil {
		return Saved{}, err
	}
	p := plan{name: r.Name, credential: r.Credential, address: r.Address, trust: r.trust(), tokenID: r.TokenID}
	if r.Credential == BySession {
		p.loginHost = r.LoginHost
	}
	f, err := s.test(ctx, p, func(ctx context.Context, call func(context.Context, *pve.Host, pve.Credentials) error) error {
		err := s.Call(ctx, caller, id, call)
		var e *pve.Error
		if errors.As(err, &e) {
			return e // in this place the words are the test's
		}
		return err
	})
	if err != nil {
		return Saved{}, err
	}
	if err := s.noteMembers(context.WithoutCancel(ctx), r, f); err != nil {
		return Saved{}, storeDown(err)
	}
	v, err := s.ShowNode(ctx, caller, ID{id})
	return Saved{View: v, Rights: f.rights, Version: f.version.Version, Warning: clockWords(p.address, f.version.ClockSkew)}, err
}

// MakeDefault is the authenticated action that makes a node the default.
func (s *Service) MakeDefault(ctx context.Context, caller session.Caller, in ID) (View, error) {
	r, err := s.record(ctx, caller, in.ID)
	if err != nil {
		return View{}, err
	}
	if !r.IsDefault {
		if err := s.store.SetDefaultNode(ctx, caller.Identity, in.ID); err != nil {
			return View{}, s.notStored(err)
		}
		s.changed(caller.Identity)
		s.note(ctx, caller, audit.NodeDefault, r, "")
	}
	return s.ShowNode(ctx, caller, in)
}

// note keeps what was done in the audit trail.
func (s *Service) note(ctx context.Context, caller session.Caller, action audit.Action, r Record, detail string) {
	s.audit.Record(ctx, audit.Entry{Identity: caller.Identity, Action: action, Target: r.Name, Detail: detail})
}

func credentialWords(r Record) string {
	switch r.Credential {
	case BySession:
		return "the session's ticket"
	case ByMadeToken:
		return "the token " + r.TokenID + " that Berth made"
	}
	return "the token " + r.TokenID
}
