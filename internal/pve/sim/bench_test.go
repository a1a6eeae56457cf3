package sim

import (
	"net/http"
	"net/url"
	"testing"
)

// BenchmarkRequest measures a signed-in GET over one kept connection, client included.
func BenchmarkRequest(b *testing.B) {
	for _, path := range []string{"/version", "/cluster/resources"} {
		b.Run(path[1:], func(b *testing.B) {
			dc, err := New(Options{Containers: 100})
			if err != nil {
				b.Fatal(err)
			}
			h, err := dc.Listen("", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			client := trusting(b, h)
			r, _ := http.NewRequest("GET", h.URL()+"/api2/json"+path, nil)
			r.Header.Set("Cookie", "PVEAuthCookie="+url.QueryEscape(dc.newTicket(rootUser, dc.now())))
			for b.Loop() {
				resp, err := client.Do(r)
				if err != nil || resp.StatusCode != 200 {
					b.Fatal(err)
				}
				n, _ := discard(resp)
				b.SetBytes(n)
			}
		})
	}
}

// BenchmarkFleet makes a hundred hosts of a hundred containers.
func BenchmarkFleet(b *testing.B) {
	for b.Loop() {
		for seed := range uint64(100) {
			if _, err := New(Options{Containers: 100, Seed: seed}); err != nil {
				b.Fatal(err)
			}
		}
	}
}
