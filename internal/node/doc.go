// Package node owns a user's nodes: the doors through which Berth reaches their containers, and the credential that it
// uses at each. Every query takes the caller and answers with that caller's nodes only; somebody else's node does not
// exist.
//
// A node goes by the session's ticket (at the proven login hosts of the datacenter that vouched for the caller, and at no
// other), by an API token that its owner gave, or by one that Berth made with a ticket and removes again. What is stored
// of a token is sealed, and goes only to the address, under the pin, that it was given for.
//
// The package does not know what lies behind a door (package container), and never hands out a ticket or a token's secret
// but to the call that is made with it.
package node
