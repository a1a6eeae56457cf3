package redis

import (
	"strings"
	"testing"

	"berth/internal/container"
)

func TestHints(t *testing.T) {
	const from, node = "replica1", "edwxlibpzp6en5uc"
	identity := strings.Repeat("0f", 32)
	for _, h := range []hint{
		{kindRead, node, string(container.Guests)}, {kindRead, node, string(container.TaskLists)},
		touchedHint(node, 100), touchedHint(node, 999_999_999),
		{kind: kindNodes, id: identity},
	} {
		text := h.encode(from)
		if gotFrom, got, ok := decodeHint(text); !ok || gotFrom != from || got != h {
			t.Errorf("%q became %+v from %q, %v", text, got, gotFrom, ok)
		}
	}
	for _, text := range []string{
		"", "1", "1 a touched", "2 a touched n 100", "1 a touched n", "1 a touched n 99", "1 a touched n 1000000000", "1 a touched n 0100", "1 a touched n +100",
		"1 a touched n 100 100", "1  a touched n 100", "1 a touched n 100 ", "1 A touched n 100", "1 a touched N 100", "1 a touched n 100\n", "1 a touched <b> 100",
		"1 a read n", "1 a read n everything", "1 a nodes n 1", "1 a nodes", "1 a nodes " + strings.Repeat("a", maxHintID+1), "1 a show n stopped",
		`{"kind":"touched"}`, "1 a nodes " + strings.Repeat("a", 1<<20),
	} {
		if _, h, ok := decodeHint(text); ok {
			t.Errorf("%.100q became %+v", text, h)
		}
	}
}

// Whatever is written to the channel is one of the few things that a replica says, exactly as it says it, or nothing.
func FuzzHint(f *testing.F) {
	f.Add("1 replica1 touched edwxlibpzp6en5uc 101")
	f.Add("1 replica1 read edwxlibpzp6en5uc tasks")
	f.Add("1 replica1 nodes " + strings.Repeat("0f", 32))
	f.Add("1 replica1 nodes x")
	f.Add("1 a touched n 0100")
	f.Fuzz(func(t *testing.T, text string) {
		from, h, ok := decodeHint(text)
		if !ok {
			if from != "" || h != (hint{}) {
				t.Errorf("of %q remains %q %+v", text, from, h)
			}
			return
		}
		if len(text) > maxMessage || h.encode(from) != text {
			t.Errorf("%q is taken for %q", text, h.encode(from))
		}
		said := 0
		h.tell(Heard{
			Read: func(string, container.Subject) { said++ }, Touched: func(string, int) { said++ },
			Nodes: func(string) { said++ },
		})
		if said != 1 {
			t.Errorf("%q is passed on %d times", text, said)
		}
	})
}
