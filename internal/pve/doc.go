// Package pve is a client of the Proxmox VE API: signing in with a ticket and a second factor, API tokens, and what a
// container dashboard asks of a cluster, its members, containers, tasks and storages.
//
// It owns everything that stands between Berth and a host on the wire: which addresses may be dialled, which certificate
// is accepted on the very connection that carries a secret, how long and how large an answer may be, what is sent again
// and what never is, and what an answer means. A Client holds the connections, a Host is one address under one Trust, and
// credentials come with each call: nothing in this package remembers who somebody is.
//
// It does not own identities, sessions or nodes, does not decide who may sign in where, keeps no secret, logs nothing and
// knows nothing of Berth's other packages. It imports the standard library and, for the one packet of a Multicast DNS
// query, golang.org/x/net: names under .local that DNS does not know are asked for on the local network.
//
// What a host sends is bounded before it is unfolded: lists are read entry by entry as they arrive (call.go, decode.go),
// and names and other short texts are cleaned of what can't be seen (record.name), so that whoever shows them only has to
// escape them for the place where they stand.
//
// No error holds a text that net/http or crypto/tls made of what a host sent, and none of what a host says if it repeats a
// secret of the call. One thing is left to the program: net/http writes what a host sends on an idle connection to the
// standard logger, so that has to lead nowhere.
//
// Facts about the wire are cited by the function of Proxmox VE's source that they come from. AC is PVE/AccessControl.pm
// and API2/AccessControl.pm of pve-access-control, AE is PVE/APIServer/AnyEvent.pm of pve-http-server, HS is
// PVE/HTTPServer.pm of pve-manager.
package pve
