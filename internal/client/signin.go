package client

import (
	"context"
	"net/http"
	"time"
)

// SignIn is what a sign-in needs.
type SignIn struct {
	Host     string `json:"host"`
	Port     int    `json:"port,omitempty"`
	Username string `json:"username"`
	Password string `json:"password"`
	Realm    string `json:"realm,omitempty"`
	// Fingerprint confirms the certificate of the Proxmox host that a refusal of code certificate_unknown named.
	Fingerprint string `json:"fingerprint,omitempty"`
	ClaimCode   string `json:"claimCode,omitempty"`
}

// SecondFactor says what the second step of a sign-in can be done with.
type SecondFactor struct {
	Challenge    string   `json:"challenge"`
	Kinds        []string `json:"kinds"`
	BrowserKey   bool     `json:"browserKey"`
	RecoveryLeft *int     `json:"recoveryLeft"`
}

// Code is the second step of a sign-in.
type Code struct {
	Challenge string `json:"challenge"`
	Kind      string `json:"kind"`
	Code      string `json:"code"`
}

type signedIn struct {
	Success bool          `json:"success"`
	TFA     *SecondFactor `json:"tfa"`
}

// Reach tells whether a Berth answers, without a secret.
func (c *Client) Reach(ctx context.Context) error {
	var health struct{ Status string }
	if err := c.call(ctx, http.MethodGet, "/healthz", nil, nil, &health); err != nil {
		return err
	}
	if health.Status != "ok" {
		return c.strange("it does not answer as a Berth does")
	}
	return nil
}

// SignIn starts a session, or returns what its second step needs.
func (c *Client) SignIn(ctx context.Context, in SignIn) (*SecondFactor, error) {
	var out signedIn
	err := c.call(ctx, http.MethodPost, "/api/auth/login", nil, in, &out)
	return out.TFA, err
}

// AnswerChallenge is the second step of a sign-in. A wrong code may come with what the next try needs.
func (c *Client) AnswerChallenge(ctx context.Context, in Code) error {
	return c.call(ctx, http.MethodPost, "/api/auth/tfa", nil, in, nil)
}

// SignOut ends the session.
func (c *Client) SignOut(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/api/auth/logout", nil, struct{}{}, nil)
}

// Caller is as whom Berth is asked, and with what.
type Caller struct {
	UserID string `json:"userId"`
	Token  *Token `json:"token"` // nil for a session
}

// Token is the access token that Berth is asked with.
type Token struct {
	Name      string    `json:"name"`
	Scope     string    `json:"scope"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Caller tells who asks.
func (c *Client) Caller(ctx context.Context) (Caller, error) {
	var out Caller
	err := c.call(ctx, http.MethodGet, "/api/caller", nil, nil, &out)
	out.UserID = Printable(out.UserID)
	return out, err
}
