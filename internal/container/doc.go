// Package container owns the containers that a caller can see: reading them from the caller's nodes side by side, watching
// them for changes, searching and sorting them, and remembering what was last known while a node does not answer.
//
// A container is addressed by its node and its VMID: the same VMID on two nodes is two containers, unless the nodes are
// doors to one cluster, whose containers go by the first of them. The package does not decide what a caller may see;
// Proxmox VE does, because every reading is made with the caller's own credential, and what was read for one identity is
// shown to no other.
//
// Readings, snapshots and their containers are shared among all who look at them, and never changed.
package container
