package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"berth/internal/pve/sim"
)

func TestReturnToPage(t *testing.T) {
	t.Parallel()
	_, host := proxmox(t, sim.Options{})
	p := open(t, inProcess(t, &clock{}, host))
	p.goTo("/?q=jelly&sort=-name&status=stopped")
	p.untilPath("/login?next=" + url.QueryEscape("/?q=jelly&sort=-name&status=stopped"))
	p.signIn(host, "alice", "pve")
	p.untilPath("/?q=jelly&sort=-name&status=stopped")
	p.untilRows("102")
	if got := p.value("q"); got != "jelly" {
		t.Errorf("the search box holds %q", got)
	}
}

// A link that somebody else made leads to this site or to "/", and never sends anybody elsewhere.
func TestReturnNowhereElse(t *testing.T) {
	t.Parallel()
	var visits atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	t.Cleanup(elsewhere.Close)
	there := strings.TrimPrefix(elsewhere.URL, "http://")
	_, host := proxmox(t, sim.Options{})
	b := inProcess(t, &clock{}, host)

	evil := []string{
		"//" + there, "///" + there, `/\` + there, `\\` + there, "/%2f" + there, "/%5c" + there, "/%252f" + there, "/\t/" + there, "/\n/" + there,
		elsewhere.URL, "http:" + there, "https:", "javascript:alert(1)", "/login", "/logout", " //" + there, "/./\\" + there,
	}
	signedIn := open(t, b)
	signedIn.goTo("/login")
	signedIn.signIn(host, "alice", "pve")
	for _, next := range evil {
		signedIn.goTo("/login?next=" + url.QueryEscape(next))
		signedIn.untilPath("/")
	}
	for _, next := range evil[:4] {
		p := open(t, b)
		p.goTo("/login?next=" + url.QueryEscape(next))
		p.signIn(host, "alice", "pve")
		p.untilPath("/")
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("%d visits elsewhere", n)
	}
}
