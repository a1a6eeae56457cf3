// Package task owns what is being done to containers: the changes that callers ask for, the lock that lets one change at a
// time be made to a container, and Proxmox VE's own tasks, by which it carries them out.
//
// A change is an Operation from the moment in which its container's lock is taken. It is sent to Proxmox VE once, whatever
// happens to the connection, and only while the lock's lease outlasts the call: where it is not known whether it arrived, Service
// looks for the task that it must have become. A task is that of one operation.
// The task is then followed to its end, with the credential of whoever asked, as long as their session lives. An operation
// that nobody follows any more, because the program ended or the session did, is followed again when its owner is seen again.
//
// The lock is one row for each container of a cluster, so it holds across processes and across users whose nodes lead to the
// same cluster. Its lease is renewed by each answer which says that the task still runs, and by nothing else: a lock outlives
// neither its task nor a crash by more than the lease.
//
// It does not read containers (package container) nor reach hosts by itself (package node), and decides nothing about
// permissions: Proxmox VE does. What Allowed says of rights is for people, so that a button need not be tried.
package task
