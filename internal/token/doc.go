// Package token owns personal access tokens, with which programs use Berth's API in place of a session. It stores their
// hashes only, and tells who comes with one and what it may do; nothing here reaches a host.
//
// A token is never sent to a Proxmox VE host: those tokens are Proxmox VE's own (package node).
package token
