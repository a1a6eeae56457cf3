package app

import (
	"maps"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

// nodeInput is the address of a simulated host, with its certificate confirmed.
func nodeInput(h *sim.Host) map[string]any {
	host, port, _ := net.SplitHostPort(h.Address())
	n, _ := strconv.Atoi(port)
	return map[string]any{"host": host, "port": n, "fingerprint": h.Fingerprint()}
}

// tokenNode is a node with a new token of a user's, without privilege separation.
func tokenNode(t *testing.T, dc *sim.Datacenter, h *sim.Host, user, name string) map[string]any {
	t.Helper()
	secret, err := dc.AddToken(user, name, false, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	in := nodeInput(h)
	maps.Copy(in, map[string]any{"name": name, "credential": "token", "tokenId": user + "!" + name, "tokenSecret": secret})
	return in
}

// signInThere is a node with a token that Berth makes after a sign-in at its host.
func signInThere(h *sim.Host, user, name string) map[string]any {
	in := nodeInput(h)
	maps.Copy(in, map[string]any{"name": name, "credential": "made", "username": user, "password": sim.DefaultPassword})
	return in
}

// addNode adds a node and returns the answer.
func (b *browser) addNode(in map[string]any) map[string]any {
	b.t.Helper()
	r := b.json("/api/nodes", in)
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("add %v: %d %s", in["name"], r.StatusCode, r.body)
	}
	return r.json(b.t)
}

// nodes lists the nodes by name.
func (b *browser) nodes() map[string]map[string]any {
	b.t.Helper()
	r := b.get("/api/nodes")
	if r.StatusCode != http.StatusOK {
		b.t.Fatalf("nodes: %d %s", r.StatusCode, r.body)
	}
	byName := map[string]map[string]any{}
	for _, item := range r.json(b.t)["items"].([]any) {
		node := item.(map[string]any)
		byName[node["name"].(string)] = node
	}
	return byName
}
