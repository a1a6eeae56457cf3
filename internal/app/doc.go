// Package app puts the program together: it is the only package that knows all others. New makes everything and listens,
// Run serves until its context ends, Close lets go. Tests start it on port 0 with a clock of their own.
//
// It also owns the demo, which is the same program beside simulated Proxmox hosts.
package app
