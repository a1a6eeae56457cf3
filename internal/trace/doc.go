// Package trace makes spans of what Berth does, and sends them to a collector of OpenTelemetry's.
//
// It knows nothing of Berth but what it is told, by functions that the parts of Berth call through hooks of their own. No
// attribute ever holds the name of a user, an address, a path as it was asked for or the text of an error.
package trace
