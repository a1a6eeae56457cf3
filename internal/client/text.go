package client

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean is a text that can be written to a terminal: without what moves the cursor or turns the direction, and at most so many
// bytes of it. A Proxmox VE host may have chosen it.
func clean(s string, most int) string {
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most]
	}
	return Printable(s)
}

// Printable is a text with everything left out that is not to be seen.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
