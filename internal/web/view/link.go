package view

import "strings"

// groups breaks a fingerprint ("AB:CD:...") into groups of four bytes, which the eye can hold while it compares.
func groups(fingerprint string) []string {
	const width = 4
	var out []string
	octets := strings.Split(fingerprint, ":")
	for len(octets) > width {
		out = append(out, strings.Join(octets[:width], ":"))
		octets = octets[width:]
	}
	return append(out, strings.Join(octets, ":"))
}
