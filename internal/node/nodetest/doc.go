// Package nodetest owns the contract that every node.Store must keep, as a suite of tests that each store runs against
// the real thing.
package nodetest
