package view

import (
	"slices"
	"testing"
)

func TestGroups(t *testing.T) {
	for _, c := range []struct {
		fingerprint string
		want        []string
	}{
		{"", []string{""}},
		{"AB:CD", []string{"AB:CD"}},
		{"01:02:03:04", []string{"01:02:03:04"}},
		{"01:02:03:04:05", []string{"01:02:03:04", "05"}},
	} {
		if got := groups(c.fingerprint); !slices.Equal(got, c.want) {
			t.Errorf("groups(%q) = %q, want %q", c.fingerprint, got, c.want)
		}
	}
}
