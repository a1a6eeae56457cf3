package view

import (
	"slices"
	"testing"
)

func TestSortPath(t *testing.T) {
	name, mem := Columns[0], Columns[5]
	for _, c := range []struct {
		sort   string
		column Column
		want   string
		aria   string
	}{
		{"", name, "/berth/?q=web+1&sort=name&status=running", ""},
		{"name", name, "/berth/?q=web+1&sort=-name&status=running", "ascending"},
		{"-name", name, "/berth/?q=web+1&sort=name&status=running", "descending"},
		{"name", mem, "/berth/?q=web+1&sort=-mem&status=running", ""},
		{"-mem", mem, "/berth/?q=web+1&sort=mem&status=running", "descending"},
	} {
		d := Dashboard{Shell: Shell{BasePath: "/berth"}, Query: "web 1", Status: "running", Sort: c.sort}
		if got := d.sortPath(c.column); got != c.want {
			t.Errorf("sorted by %q, a click on %s goes to %q, want %q", c.sort, c.column.Name, got, c.want)
		}
		if got := d.sorted(c.column); got != c.aria {
			t.Errorf("sorted by %q, aria-sort of %s is %q, want %q", c.sort, c.column.Name, got, c.aria)
		}
	}
}

func TestListPathOfNothing(t *testing.T) {
	if got := (Dashboard{}).listPath("", "", ""); got != "/" {
		t.Errorf("listPath = %q", got)
	}
}

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
