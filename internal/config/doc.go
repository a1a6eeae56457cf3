// Package config owns what the operator sets: flags, BERTH_... variables, and secrets that lie in files. It checks all of
// it and reports every problem at once, each naming flag and variable.
//
// It has no global state and opens nothing for longer than the check takes: the settings are handed on as a value.
package config
