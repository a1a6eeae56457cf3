// Package container owns the LXC containers that a caller can see: reading them from the caller's nodes, searching and
// sorting them, and remembering what was last known while a node does not answer.
//
// A container is addressed by its node and its VMID: the same VMID on two nodes is two containers. The package does
// not decide what a caller may see; Proxmox VE does, because every reading is made with the caller's own credential,
// and what was read for one identity is shown to no other.
package container
