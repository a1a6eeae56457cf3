// Package node owns a user's nodes: the doors through which Berth reaches their containers, and the credential that it
// uses at each. Every query takes the caller and answers with that caller's nodes only; somebody else's node does not
// exist.
//
// Today a caller has one node, the login host that vouched for them, reached with their session's own ticket. The
// package does not know what lies behind a door (package container), and never hands out a ticket.
package node
