// Package fault owns the one error type that Berth shows to people and programs: a kind, a stable code, a message that
// is safe to show, one message per input field, how long to wait, and the cause that only the log may see.
//
// It knows neither HTTP nor Proxmox VE: what turns a kind into a status, or a Proxmox error into a fault, lives where
// requests are answered.
package fault
