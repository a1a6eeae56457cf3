// Package sim is a simulated Proxmox VE installation: hosts that answer over real TLS as pveproxy does, with users,
// tickets, tokens, second factors, permissions, containers and tasks behind them.
//
// It owns everything that a client can observe of such an installation: status line and reason phrase, headers, bodies,
// which refusals are slow, and the faults that a sick host shows. It serves `berth demo`, `berth sim`, tests and load
// measurements. It knows nothing of Berth's own client (internal/pve), so that a mistake there is not repeated here: what
// it does is taken from PVE's sources and from recorded answers.
//
// A Datacenter is one installation: a standalone host or a cluster, whose members share users, keys, permissions and
// guests. Listen makes a member answer on an address; a Host is that address, where faults are switched on. Unless
// Options.Empty is set there is a default world: its accounts are listed at DefaultPassword, its containers in world.go.
//
// A request passes through host.go and wire.go (connections, HTTP), dispatch.go (PVE's order of checks, its bodies),
// route.go and schema.go (paths, parameters) to an endpoint, of which every file named for a thing declares some. Where
// code depends on a fact about PVE, a comment names the file and function there. What tests and demos do to a datacenter
// beside its API, such as letting tasks fail or acting as somebody at another client, is in control.go.
//
// Realms of the types ldap and ad are accounts with passwords, without a directory behind them; for openid there is an
// IdentityProvider.
//
// Not simulated: resource pools, enrolling second factors, changing users and permissions through
// the API (world-building methods do that), consoles, and virtual machines beyond their being listed.
//
// It is never a security boundary. Passwords and second factors are kept in the clear, all datacenters of a process sign
// with one RSA key (see ticket.go for how they stay apart), and nothing is throttled.
package sim
