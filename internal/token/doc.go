// Package token owns personal access tokens, with which programs use Berth's API in place of a session. It stores their
// hashes only.
//
// A token is never sent to a Proxmox VE host: those tokens are Proxmox VE's own (package node).
package token
