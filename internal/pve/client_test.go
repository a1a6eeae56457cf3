package pve

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDefaults: what a Client does that is told nothing.
func TestDefaults(t *testing.T) {
	c := NewClient(Options{})
	defer c.Close()
	o := c.options
	if o.ConnectTimeout != 5*time.Second || o.CallTimeout != 15*time.Second || o.SignInTimeout != 20*time.Second || o.MaxBody != 8<<20 {
		t.Errorf("connects within %v, calls within %v, signs in within %v, reads %d bytes", o.ConnectTimeout, o.CallTimeout, o.SignInTimeout, o.MaxBody)
	}
	h := c.Host(Address{"pve.lan", 8006}, Trust{})
	if h.transport.MaxResponseHeaderBytes != 64<<10 {
		t.Errorf("reads %d bytes of header", h.transport.MaxResponseHeaderBytes)
	}
}

// TestBoundsOfAnAnswer: 8 MiB of a long list and 64 KiB of header are read, and no more.
func TestBoundsOfAnAnswer(t *testing.T) {
	row := `{"id":"lxc/100","name":"` + strings.Repeat("x", 1000) + `"},`
	list := func(size int) string {
		const begin, end = `{"data":[`, `{}]}`
		rows := strings.Repeat(row, (size-len(begin)-len(end))/len(row))
		return begin + rows + strings.Repeat(" ", size-len(begin)-len(rows)-len(end)) + end
	}
	head := func(size int) string {
		return reply("200 OK\r\nX-Long: "+strings.Repeat("x", size), `{"data":[]}`)
	}
	for _, c := range []struct {
		name, answer string
		fails        bool
		kind         Kind
	}{
		{"8 MiB", reply("200 OK", list(8<<20)), false, 0},
		{"a byte more", reply("200 OK", list(8<<20+1)), true, KindTooLarge},
		{"nearly 64 KiB of header", head(60 << 10), false, 0},
		{"65 KiB of header", head(65 << 10), true, KindNotProxmox},
	} {
		h, f := pinned(t, always(c.answer))
		_, err := h.Resources(t.Context(), alice, AllResources)
		switch {
		case !c.fails && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.fails && !IsKind(err, c.kind):
			t.Errorf("%s: %v, want an error of kind %q", c.name, err, c.kind)
		}
		if n := len(f.seen()); n != 1 {
			t.Errorf("%s: %d requests", c.name, n)
		}
	}
}

// TestPauseHasJitter: two who fail at the same moment do not come again at the same moment.
func TestPauseHasJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const d = time.Second
		took := map[string]bool{}
		for range 20 {
			began := time.Now()
			if err := pause(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			p := time.Since(began)
			if p < d/2 || p >= d+d/2 {
				t.Errorf("%v for %v", p, d)
			}
			took[fmt.Sprint(p)] = true
		}
		if len(took) < 10 {
			t.Errorf("only %d different pauses of 20", len(took))
		}
	})
}
