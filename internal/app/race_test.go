//go:build race

package app

// raced tells that the race detector watches, which multiplies what everything takes in memory and in time.
const raced = true
