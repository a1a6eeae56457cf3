// Package task owns what is being done to containers: the changes that callers ask for, the lock that lets one change at a
// time be made to a container, and Proxmox VE's own tasks, by which it carries them out.
//
// It does not read containers (package container) nor reach hosts by itself (package node), and decides nothing about
// permissions: Proxmox VE does.
package task
