package container

import (
	"fmt"
	"slices"
	"testing"
)

func TestTagNames(t *testing.T) {
	s := &snapshot{rows: []*Container{{Tags: []string{"web", "db"}}, {Tags: []string{"web"}}, {Tags: []string{"auth"}}, {}}}
	for range 2 {
		if got := s.tagNames(); !slices.Equal(got, []string{"web", "auth", "db"}) {
			t.Fatalf("tags %q", got)
		}
	}
	many := &snapshot{}
	for i := range 2 * maxTagNames {
		many.rows = append(many.rows, &Container{Tags: []string{fmt.Sprint("tag", i)}})
	}
	if got := many.tagNames(); len(got) != maxTagNames {
		t.Errorf("%d tags are named", len(got))
	}
}
