package testneed

import "testing"

func TestRequired(t *testing.T) {
	for _, c := range []struct {
		list string
		want bool
	}{
		{"", false}, {"nginx", true}, {"axe, nginx", true}, {"nginxx", false}, {"axe", false},
	} {
		if got := required(c.list, "nginx"); got != c.want {
			t.Errorf("required(%q, nginx) = %t", c.list, got)
		}
	}
}
