// Package session owns signed-in browsers and clients: the random token that a cookie carries, the record behind it,
// how long it lives, the renewal of the Proxmox ticket inside it, and its end. It also owns the two words that
// everything else is keyed by: Identity and Caller.
//
// A session moves through these states:
//
//	Start ──> alive ──Touch──> alive            idle limit and absolute limit both count
//	             │ └──Ticket──> alive           ticket over an hour old: renewed, once however many ask
//	             ├── End ───────────> ended     signed out, here or from elsewhere
//	             ├── limits passed ─> ended
//	             └── a call and the renewal after it both refused by Proxmox VE ─> ended
//
// An ended session stays ended: whatever request is in flight updates only what is still there, never inserts.
//
// The package does not know cookies or HTTP, how a session is stored (Store), where a ticket comes from (Renewer), or
// who may sign in.
package session
