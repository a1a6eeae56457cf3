package app

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// TestAbuseOutdatedChange: a change that was made from what a node is not any more, be it in another replica's memory or while
// the host waited for a second factor, brings no old address, certificate or secret back; a new name changes nothing else.
func TestAbuseOutdatedChange(t *testing.T) {
	b := newBench(t)
	dc, home := b.newHost(t, sim.Options{})
	_, guarded := b.newHost(t, sim.Options{Members: []string{"guarded"}})
	root := b.past(t) // it is that program's memory which is out of date
	root.signIn(home, "root@pam")
	in := tokenNode(t, dc, home, "root@pam", "moved")
	id := root.addNode(in)["id"].(string)
	of := identityOf(t, b, root)
	// elsewhere changes the node as another replica does, of which this one's memory knows nothing yet.
	elsewhere := func(host string) {
		t.Helper()
		root.get("/api/nodes").want(t, "list", http.StatusOK, "")
		records, err := b.store.Nodes(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.ID == id {
				r.Address.Host, r.Secret = host, []byte("of "+host)
				err = b.store.ChangeNode(t.Context(), r, "")
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	leadsTo := func(host, called string) {
		t.Helper()
		records, err := b.store.Nodes(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.ID == id && (r.Address.Host != host || string(r.Secret) != "of "+host || r.Name != called) {
				t.Errorf("the node is called %s and leads to %s with %q", r.Name, r.Address, r.Secret)
			}
		}
	}

	elsewhere("one.lan")
	root.patch(id, map[string]any{"name": "renamed"}).want(t, "a new name", http.StatusOK, "")
	leadsTo("one.lan", "renamed")

	elsewhere("two.lan")
	same := nodeInput(home)
	same["tokenId"], same["tokenSecret"] = in["tokenId"], in["tokenSecret"]
	root.patch(id, same).want(t, "a change of what was", http.StatusConflict, "changed_meanwhile")
	leadsTo("two.lan", "renamed")
	root.patch(id, same).want(t, "the same change of what is", http.StatusOK, "")

	asked := root.patch(id, signInThere(guarded, "bob@pve", "bob's")).want(t, "the question for a second factor", http.StatusOK, "")
	root.patch(id, map[string]any{"name": "again"}).want(t, "a new name meanwhile", http.StatusOK, "")
	root.patch(id, map[string]any{
		"challenge": asked["tfa"].(map[string]any)["challenge"], "kind": "totp", "code": sim.TOTP(sim.DefaultTOTPSecret, b.now()),
	}).want(t, "its answer", http.StatusConflict, "changed_meanwhile")
	if n := root.nodes()["again"]; n == nil || n["tokenId"] != in["tokenId"] {
		t.Errorf("nodes %v", root.nodes())
	}
	if left := root.leftOver(); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

var (
	tag = regexp.MustCompile(`<[^>]*>`)
	// separators stand between the bytes of a fingerprint, on a page other ones than elsewhere.
	separators = strings.NewReplacer(" ", "", ":", "")
)

// The page of a node whose certificate has changed shows the old one and the new one, and confirms it with the secret given
// again. Nothing is said to be saved while the node is refused.
func TestPageOfAChangedCertificate(t *testing.T) {
	b := newBench(t)
	_, home := b.newHost(t, sim.Options{})
	dc, host := b.newHost(t, sim.Options{Members: []string{"far"}})
	root := b.browser(t)
	root.signIn(home, "root@pam")
	in := tokenNode(t, dc, host, "root@pam", "far")
	page := "/settings/nodes/" + root.addNode(in)["id"].(string)
	before := host.Fingerprint()
	if err := host.ChangeCertificate(false); err != nil {
		t.Fatal(err)
	}
	b.each(func(a *App) { a.client.Close() }) // connections that are there have shown theirs
	b.advance(2 * time.Minute)
	plain := url.Values{
		"kind": {"token"}, "credential": {"token"}, "name": {"renamed"}, "host": {in["host"].(string)}, "port": {portOf(host)},
		"tokenId": {in["tokenId"].(string)},
	}
	shows := func(what string, r reply, status int) url.Values {
		t.Helper()
		text := strings.Join(strings.Fields(tag.ReplaceAllString(r.body, " ")), " ")
		for _, fingerprint := range []string{before, host.Fingerprint()} {
			if r.StatusCode != status || !strings.Contains(separators.Replace(text), separators.Replace(fingerprint)) {
				t.Fatalf("%s: %d without %s:\n%s", what, r.StatusCode, fingerprint, text)
			}
		}
		if !strings.Contains(text, "It matches") || strings.Contains(text, "was saved") {
			t.Errorf("%s: %s", what, text)
		}
		if !strings.Contains(r.body, `name="fingerprint" value="`+host.Fingerprint()+`"`) {
			t.Errorf("%s: the form does not confirm it", what)
		}
		form := maps.Clone(plain)
		form.Set("fingerprint", host.Fingerprint())
		return form
	}
	shows("the node", root.get(page), http.StatusOK)
	shows("its test", root.form(page+"/test", url.Values{}), http.StatusConflict)
	form := shows("a save of nothing but a name", root.form(page, plain), http.StatusConflict)
	if root.nodes()["far"] == nil {
		t.Errorf("saved while the node is refused: %v", root.nodes())
	}
	form.Set("tokenSecret", "")
	form = shows("without the secret", root.form(page, form), http.StatusUnprocessableEntity)
	form.Set("tokenSecret", in["tokenSecret"].(string))
	if r := root.form(page, form); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("confirmed: %d %s", r.StatusCode, r.body)
	}
	if r := root.form(page, plain); r.StatusCode != http.StatusSeeOther || root.nodes()["renamed"] == nil {
		t.Errorf("a new name after that: %d, nodes %v", r.StatusCode, root.nodes())
	}
}
