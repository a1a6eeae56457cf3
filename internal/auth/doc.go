// Package auth owns signing in: which datacenters and login hosts there are, what a visitor's sign-in must carry, the way
// from a password to a session, and what a refusal says.
//
// A sign-in is a small state machine. Every arrow to "refused" ends in the same answer, no sooner than FailureDelay
// after the sign-in came in:
//
//	POST login ──> host known? ──yes, pinned or by roots──────────────┐
//	                  │ no                                            │
//	                  ├─ certificate verifies, or was confirmed ──────┤
//	                  └─ unknown certificate ──> 409, confirm ──> POST login again
//	                                                                  │
//	                              ticket asked of that host <─────────┘
//	                                 │        │        └─ anything else ──> refused
//	                                 │        └─ second factor needed ──> 200, challenge (five minutes)
//	                                 │                                        │
//	                                 │            POST tfa ── wrong, expired ─┴─> refused
//	                                 │                └─ right
//	                                 └──────────────────┴──> session started; a new host is kept and pinned with it
//
// A realm of type openid has another way in, at known login hosts alone, since nobody has confirmed the certificate of any
// other one:
//
//	POST login ──> known host asked for its provider's address ── not https, ... ──> refused
//	                  │
//	                  └─> a link that names the provider; waits ten minutes, for this browser ──> provider
//	                                                                                                │
//	       session started <── ticket <── the same host, asked once <── POST login/openid <─────────┘
//
// A visitor pins nothing for others: a host, its datacenter and its pin appear in the transaction that stores the first
// session there, and a refused sign-in leaves nothing behind. What a host says is worth what the host is worth: each new
// login host is a datacenter of its own.
//
// Both steps go through the throttle before anything is sent: an attempt is counted first and given back when it was none.
// Whoever guesses waits, longer each time and never for good; a browser or address that signed in with the account before
// is not slowed by what others try.
//
// The package does not own sessions once they have started (package session), cookies or pages.
package auth
