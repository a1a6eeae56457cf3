package token

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"berth/internal/fault"
	"berth/internal/session"
)

const maxName = 64 // characters

// CreateInput says what access token a caller wants to have. Its fields are checked by Create, which knows the time.
type CreateInput struct {
	Name  string        `json:"name" doc:"for its owner, 1 to 64 characters; each of their tokens has another one" example:"backup script"`
	Scope session.Scope `json:"scope" enum:"read,power,all" doc:"read lists and shows; power starts and stops containers too; all does whatever needs no session"`
	// ExpiresAt is text, so that a form can send a day.
	ExpiresAt string `json:"expiresAt" doc:"a day (2027-03-01, to its end in UTC) or a time (RFC 3339), within a year" example:"2027-03-01"`
}

// check reports every field that can't be right.
func (in CreateInput) check(now time.Time) (Token, error) {
	t := Token{Name: strings.TrimSpace(in.Name), Scope: in.Scope}
	fields := map[string]string{}
	switch {
	case t.Name == "":
		fields["name"] = "Name is required"
	case len(t.Name) > maxName*utf8.UTFMax, utf8.RuneCountInString(t.Name) > maxName:
		fields["name"] = "Name is too long: at most " + strconv.Itoa(maxName) + " characters"
	case !utf8.ValidString(t.Name) || strings.ContainsFunc(t.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
		fields["name"] = "Name can't contain control characters"
	}
	if !slices.Contains(session.Scopes, t.Scope) {
		fields["scope"] = "Scope must be one of read, power, all"
	}
	var problem string
	if t.Expires, problem = expiry(in.ExpiresAt, now); problem != "" {
		fields["expiresAt"] = problem
	}
	return t, fault.InvalidInput(fields)
}

// LatestExpiry is the last day that an access token can be made for.
func LatestExpiry(now time.Time) time.Time { return now.UTC().AddDate(1, 0, 0) }

// expiry reads when a token is to expire. A day counts to its end, that of a year from now to the moment a year from now.
func expiry(text string, now time.Time) (at time.Time, problem string) {
	latest := LatestExpiry(now)
	if text == "" {
		return at, "An expiry is required"
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		at = day.AddDate(0, 0, 1)
		if !day.After(latest) && at.After(latest) {
			at = latest
		}
	} else if at, err = time.Parse(time.RFC3339, text); err != nil {
		return at, "Expiry must be a day like 2027-03-01 or a time like 2027-03-01T12:00:00Z"
	}
	at = at.UTC().Truncate(time.Millisecond)
	switch {
	case !at.After(now):
		return at, "Expiry must be in the future"
	case at.After(latest):
		return at, "Expiry must be within a year: " + latest.Format(time.DateOnly) + " at the latest"
	}
	return at, ""
}

// Choice names an access token.
type Choice struct {
	ID string `json:"-" path:"id" doc:"of the access token, as a list names it"`
}

// View is an access token as people and programs see it.
type View struct {
	ID        string        `json:"id" doc:"names the token; it is no part of its text"`
	Name      string        `json:"name" example:"backup script"`
	Scope     session.Scope `json:"scope" enum:"read,power,all"`
	CreatedAt time.Time     `json:"createdAt"`
	ExpiresAt time.Time     `json:"expiresAt"`
	// LastUsedAt is the zero value until the token is used.
	LastUsedAt time.Time `json:"lastUsedAt,omitzero" doc:"absent until it is used"`
	Expired    bool      `json:"expired" doc:"it is listed for another 30 days"`
}

// List are the caller's access tokens.
type List struct {
	Items []View `json:"items" doc:"the newest first"`
	// WorkUntil is when they stop working unless the caller signs in again before.
	WorkUntil time.Time `json:"workUntil" doc:"when they stop working unless their owner signs in again before"`
}

// Created is a new access token.
type Created struct {
	View
	Text string `json:"token" doc:"to be sent as Authorization: Bearer ...; shown this once" example:"berth_..."`
}

// CallerView is who asks, and with what.
type CallerView struct {
	UserID string `json:"userId" example:"root@pam"`
	Token  *View  `json:"token,omitempty" doc:"what it is asked with; absent for a session"`
}

// Revoked is the answer to a revocation.
type Revoked struct {
	Success bool `json:"success"`
}
