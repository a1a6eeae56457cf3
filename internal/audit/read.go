package audit

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/fault"
	"berth/internal/session"
)

// Owners tells whether a caller is an owner of the installation. It asks Proxmox VE, so it takes a moment.
type Owners interface {
	Owner(ctx context.Context, caller session.Caller) (bool, error)
}

// Reader reads the trail. It is safe for concurrent use.
type Reader struct {
	store  Store
	owners Owners
}

// NewReader returns a reader of what a store holds.
func NewReader(store Store, owners Owners) *Reader { return &Reader{store: store, owners: owners} }

// Selection says which entries are meant. Its zero value means those about nobody.
type Selection struct {
	// Of lets entries through that are about this identity: by it, or with it as subject.
	Of session.Identity
	// Shared lets everybody's entries of the shared categories through too.
	Shared bool
	Action Action // "" for any
	Result Result // "" for any
	// Text is part of a user id, address, target, error id or detail, whatever its case (of ASCII letters).
	Text string
	// From and To bound the time: From <= At < To. The zero value is no bound.
	From, To time.Time
	// Before lets only entries with a lower id through; 0 is no bound.
	Before int64
}

// Filter is what a reader may ask for.
type Filter struct {
	Action string `json:"action,omitempty" doc:"sign_in, second_factor, sign_out, session_end, ... as entries name it" example:"sign_in"`
	Result string `json:"result,omitempty" enum:"ok,refused,failed" doc:"how it ended"`
	Text   string `json:"q,omitempty" doc:"part of a user id, address, target, error id or detail"`
	From   string `json:"from,omitempty" doc:"not before: a day (2026-03-01, from its beginning in UTC) or a time (RFC 3339)" example:"2026-03-01"`
	To     string `json:"to,omitempty" doc:"not after: a day (to its end in UTC) or a time (RFC 3339, itself excluded)" example:"2026-03-31"`
	Whose  string `json:"whose,omitempty" enum:"mine,everyone" doc:"mine, or for an owner everyone (their default)"`
}

// Query is what a reader may ask for, page by page.
type Query struct {
	Filter
	Before string `json:"before,omitempty" doc:"the next of the page before: lists what is older"`
	Limit  string `json:"limit,omitempty" doc:"entries in a page: 1 to 200, 50 if absent" example:"50"`
}

const (
	defaultLimit = 50
	maxLimit     = 200
	maxText      = 200
	exportBatch  = 500
)

// Validate reports every field that can't be right.
func (f Filter) Validate() error { return fault.InvalidInput(f.check(&Selection{})) }

// Validate reports every field that can't be right.
func (q Query) Validate() error {
	_, _, err := q.selection()
	return err
}

func (f Filter) check(s *Selection) map[string]string {
	problems := map[string]string{}
	s.Action, s.Result, s.Text = Action(f.Action), Result(f.Result), strings.TrimSpace(f.Text)
	if f.Action != "" && !slices.Contains(Actions, s.Action) {
		problems["action"] = "There is no such action"
	}
	switch s.Result {
	case "", OK, Refused, Failed:
	default:
		problems["result"] = "Result must be one of ok, refused, failed"
	}
	if len(s.Text) > maxText {
		problems["q"] = fmt.Sprintf("Search text is too long: at most %d bytes", maxText)
	}
	var ok bool
	if s.From, ok = moment(f.From, 0); !ok {
		problems["from"] = "From must be a day like 2026-03-01 or a time like 2026-03-01T12:00:00Z"
	}
	if s.To, ok = moment(f.To, 24*time.Hour); !ok {
		problems["to"] = "To must be a day like 2026-03-01 or a time like 2026-03-01T12:00:00Z"
	}
	switch f.Whose {
	case "", "mine", "everyone":
	default:
		problems["whose"] = "Whose must be mine or everyone"
	}
	return problems
}

// moment reads a time, or a day with so much added to its beginning.
func moment(text string, added time.Duration) (time.Time, bool) {
	if text == "" {
		return time.Time{}, true
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.Add(added), storable(day)
	}
	at, err := time.Parse(time.RFC3339, text)
	return at.UTC(), err == nil && storable(at)
}

// storable tells whether a time can be compared with the store's milliseconds.
func storable(t time.Time) bool { return t.Year() >= 1970 && t.Year() < 10_000 }

func (q Query) selection() (Selection, int, error) {
	var s Selection
	problems := q.check(&s)
	limit := defaultLimit
	if q.Limit != "" {
		n, err := strconv.Atoi(q.Limit)
		if err != nil || n < 1 || n > maxLimit {
			problems["limit"] = fmt.Sprintf("Limit must be a whole number from 1 to %d", maxLimit)
		}
		limit = n
	}
	if q.Before != "" {
		n, err := strconv.ParseInt(q.Before, 10, 64)
		if err != nil || n < 1 {
			problems["before"] = "Before must be the next of another page"
		}
		s.Before = n
	}
	return s, limit, fault.InvalidInput(problems)
}

// Line is an entry as a reader gets it.
type Line struct {
	ID         string    `json:"id" doc:"orders entries: a later one has a higher number"`
	At         time.Time `json:"time"`
	UserID     string    `json:"userId" doc:"who did it, or what was typed when nobody was signed in; empty for the operator's command line and for Berth itself" example:"root@pam"`
	Datacenter string    `json:"datacenter" doc:"id of the datacenter that vouched for the user; empty when nobody did"`
	Host       string    `json:"host,omitempty" doc:"a login host of that datacenter, among everyone's entries; absent when it has none any longer" example:"192.168.1.100:8006"`
	Subject    string    `json:"subject,omitempty" doc:"whose session it was, if somebody else's"`
	// The same user id of two datacenters is two people.
	SubjectHost string `json:"subjectHost,omitempty" doc:"a login host of the subject's datacenter, among everyone's entries"`
	Address     string `json:"address" doc:"where it came from; empty when unknown or somebody else's"`
	Action      Action `json:"action" example:"sign_in"`
	Target      string `json:"target" example:"192.168.1.100:8006"`
	Result      Result `json:"result" example:"ok"`
	ErrorID     string `json:"errorId,omitempty" doc:"as it was shown; the log has the cause under it"`
	Detail      string `json:"detail,omitempty"`
	Count       int64  `json:"count" doc:"how many attempts this stands for; more than 1 in a summary"`
}

// Page is one page of the trail, newest first.
type Page struct {
	Items []Line `json:"items"`
	Next  string `json:"next,omitempty" doc:"give it as before to list what is older; absent on the last page"`
	// Everyone tells that everyone's entries are meant, Owner that the caller may choose.
	Everyone bool `json:"everyone" doc:"whether everyone's entries of signing in, sessions, hosts and keys are among them"`
	Owner    bool `json:"owner" doc:"whether the caller owns the installation"`
}

// List is the authenticated action that reads the trail, one page at a time.
func (r *Reader) List(ctx context.Context, caller session.Caller, q Query) (Page, error) {
	s, limit, err := q.selection()
	if err != nil {
		return Page{}, err
	}
	owner, err := r.scope(ctx, caller, q.Filter, &s)
	if err != nil {
		return Page{}, err
	}
	entries, err := r.store.Entries(ctx, s, limit+1)
	if err != nil {
		return Page{}, fault.StoreDown(err)
	}
	page := Page{Items: []Line{}, Everyone: s.Shared, Owner: owner}
	if len(entries) > limit {
		entries = entries[:limit]
		page.Next = strconv.FormatInt(entries[limit-1].ID, 10)
	}
	doors, err := r.doors(ctx, s)
	if err != nil {
		return Page{}, err
	}
	for _, e := range entries {
		page.Items = append(page.Items, line(e, s, doors))
	}
	return page, nil
}

// Export reads everything that a filter lets through, newest first, and gives it to write a batch at a time. Entries that
// are added meanwhile are not part of it.
func (r *Reader) Export(ctx context.Context, caller session.Caller, f Filter, write func([]Line) error) error {
	var s Selection
	if err := fault.InvalidInput(f.check(&s)); err != nil {
		return err
	}
	if _, err := r.scope(ctx, caller, f, &s); err != nil {
		return err
	}
	doors, err := r.doors(ctx, s)
	if err != nil {
		return err
	}
	for {
		entries, err := r.store.Entries(ctx, s, exportBatch)
		if err != nil {
			return fault.StoreDown(err)
		}
		lines := make([]Line, 0, len(entries))
		for _, e := range entries {
			lines = append(lines, line(e, s, doors))
		}
		if err := write(lines); err != nil || len(entries) < exportBatch {
			return err
		}
		s.Before = entries[len(entries)-1].ID
	}
}

// scope narrows a selection to what the caller may read, and tells whether they are an owner.
func (r *Reader) scope(ctx context.Context, caller session.Caller, f Filter, s *Selection) (owner bool, err error) {
	s.Of = caller.Identity
	owner, err = r.owners.Owner(ctx, caller)
	switch {
	case err != nil && f.Whose == "everyone":
		return false, err
	case err != nil:
		// A host that doesn't answer must not keep people from their own entries.
		return false, nil
	case !owner && f.Whose == "everyone":
		return false, &fault.Error{Kind: fault.Forbidden, Code: "owners_only", Message: "Everyone's entries are for the owners of this Berth."}
	}
	s.Shared = owner && f.Whose != "mine"
	return owner, nil
}

// doors are the datacenters' login hosts where entries of several datacenters can be selected; nil elsewhere.
func (r *Reader) doors(ctx context.Context, s Selection) (map[string]string, error) {
	if !s.Shared {
		return nil, nil
	}
	doors, err := r.store.Doors(ctx)
	if err != nil {
		return nil, fault.StoreDown(err)
	}
	return doors, nil
}

// line shows an entry to the reader that the selection is for.
func line(e Entry, s Selection, doors map[string]string) Line {
	l := Line{
		ID: strconv.FormatInt(e.ID, 10), At: e.At, UserID: e.Identity.UserID, Datacenter: e.Identity.Datacenter,
		Host: doors[e.Identity.Datacenter], SubjectHost: doors[e.Subject.Datacenter],
		Subject: e.Subject.UserID, Action: e.Action, Target: e.Target, Result: e.Result, ErrorID: e.ErrorID, Detail: e.Detail, Count: e.Count,
	}
	// To whom it was done is told who did it, not from where.
	if e.Address.IsValid() && (s.Shared || e.Identity == s.Of) {
		l.Address = addressText(e.Address)
	}
	return l
}

func addressText(a netip.Addr) string { return a.Unmap().String() }
