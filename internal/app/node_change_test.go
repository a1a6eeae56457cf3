package app

import (
	"net/http"
	"testing"

	"berth/internal/pve/sim"
)

// TestAbuseOutdatedChange: a change that was made from what a node is not any more, be it in another replica's memory or while
// the host waited for a second factor, brings no old address, certificate or secret back; a new name changes nothing else.
func TestAbuseOutdatedChange(t *testing.T) {
	b := newBench(t)
	dc, home := b.newHost(t, sim.Options{})
	_, guarded := b.newHost(t, sim.Options{Members: []string{"guarded"}})
	root := b.browser(t)
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
