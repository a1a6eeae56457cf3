package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/config"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/session"
	"berth/internal/web"
)

// ownersRoutes belong to the owners of the installation: to everybody else they say so, whatever is named in the request,
// and before anything is looked up.
var ownersRoutes = []string{
	"GET /settings/hosts", "POST /settings/hosts", "GET /settings/hosts/{id}/repin", "POST /settings/hosts/{id}/repin",
	"GET /settings/hosts/{id}/remove", "POST /settings/hosts/{id}/remove",
	"GET /api/hosts", "POST /api/hosts", "POST /api/hosts/certificate", "POST /api/hosts/repin", "POST /api/hosts/remove",
}

// victim is what a namesake tries to get at: root@pam of another installation.
type victim struct {
	browser *browser
	dc      *sim.Datacenter
	host    *sim.Host
	known   auth.LoginHost
	session string // id
	hash    string // of the session's token
	entry   string // id of an entry of the audit trail
	cursor  string // of a page of containers
	version string // of the list of containers
	token   string // id of an access token
	text    string // of that token
	node    string // id
	op, run string // ids of an operation that failed, and of a run
	upid    string // of a task
	door    string // id of a node with a token of Proxmox VE
	left    string // id of a token that was left over on the host
	waits   string // challenge of a sign-in that waits for its second factor
	// neighbour tells that whoever tries is of the same installation, and so knows its login host.
	neighbour bool
}

// work gives the victim an operation that failed, and a run.
func (v *victim) work(t *testing.T, b *bench) {
	t.Helper()
	y := &yard{bench: b, dc: v.dc, host: v.host, browser: v.browser, node: v.browser.nodeID(t)}
	v.dc.FailTasks("only-here it failed", 777)
	r, op := y.order(t, y.node, 777, "start", nil)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("start: %d %s", r.StatusCode, r.body)
	}
	y.ended(t, op.ID)
	run := y.bulk(t, map[string]any{"action": "start", "items": []map[string]any{{"nodeId": y.node, "vmid": 777}}})
	y.runEnded(t, run.ID)
	v.node, v.op, v.run, v.upid = y.node, op.ID, run.ID, op.UPID.String()
}

// guesses are ids of the victim's by what a route calls its wildcard, or an input its field. A route with another one needs
// a line here: what of the victim's could be named in its place?
func (v victim) guesses(name string) ([]string, bool) {
	switch name {
	case "id":
		return []string{v.session, v.known.ID, v.known.Datacenter, v.hash, v.entry, v.token, v.op, v.run, v.door, v.left}, true
	case "host":
		return []string{v.host.Address()}, true
	case "port":
		return []string{""}, true // it is part of the address
	case "fingerprint":
		return []string{v.host.Fingerprint()}, true
	case "whose":
		return []string{"everyone"}, true
	case "before":
		return []string{v.entry}, true
	case "version":
		return []string{v.version}, true
	case "cursor":
		return []string{v.cursor}, true
	case "node", "nodeId":
		return []string{v.node, v.door, v.known.ID}, true
	case "vmid":
		return []string{"777"}, true
	case "upid":
		return []string{v.upid}, true
	case "items":
		return []string{`[{"nodeId":"` + v.node + `","vmid":777}]`}, true
	case "query":
		return []string{`{"node":"` + v.node + `"}`}, true
	case "loginHost":
		return []string{v.known.ID}, true
	case "sameAs":
		return []string{v.door}, true
	case "challenge":
		return []string{v.waits}, true
	case "credential":
		return []string{"session"}, true
	case "q":
		return []string{v.known.ID, "only-here", "Victim/1.0"}, true
	case "tag":
		return []string{"only-here"}, true
	case "name":
		return []string{"Victim's own"}, true
	case "status", "kind", "sort", "action", "result", "from", "to", "limit", "scope", "expiresAt", "start", "timeout", "purge",
		"destroyUnreferenced", "confirm", "tags", "description", "digest", "timeframe", "addTags", "removeTags", "isDefault", // of words that are the same for everybody
		"username", "password", "realm", "tokenId", "tokenSecret", "code": // of secrets that nobody but the victim has
		return []string{""}, true
	}
	return nil, false
}

// secrets are texts that show, wherever they appear, that something is shared.
func (v victim) secrets() []string {
	secrets := []string{v.session, v.hash, "only-here", "Victim/1.0", v.browser.token(), v.token, v.text,
		v.node, v.op, v.run, v.door, v.left, v.waits}
	if !v.neighbour {
		secrets = append(secrets, v.known.ID, v.known.Datacenter, v.host.Address(), v.host.Fingerprint())
	}
	return secrets
}

// state is what the victim has, as far as anybody else could change it.
func (v victim) state(t *testing.T, b *bench) string {
	t.Helper()
	known, err := b.store.LoginHost(t.Context(), v.known.ID)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, one := range v.browser.sessionList("") {
		ids = append(ids, one["id"].(string))
	}
	return fmt.Sprint(ids, brief(v.browser.entries("?whose=mine")), v.browser.get("/api/containers").json(t)["counts"],
		v.browser.get("/api/tokens").json(t)["items"],
		v.browser.get("/api/notices").body, v.browser.get("/api/bulk/"+v.run).body,
		v.browser.get("/api/nodes").body,
		known.Address, known.Datacenter, *known.Key, known.Fingerprint)
}

// TestAbuseNamesakeWalksEveryRoute: two installations that give themselves the same names both vouch for a root@pam. Through
// every route in the table, whatever of the other's is guessed, neither finds or changes anything of the other. Nor does another user of
// the same installation.
func TestAbuseNamesakeWalksEveryRoute(t *testing.T) {
	for name, change := range map[string]func(*config.Settings){"any host may vouch": nil, "the other one owns the installation": claimed} {
		t.Run(name, func(t *testing.T) {
			b := newBenchWith(t, change)
			v := victim{browser: b.browser(t)}
			v.browser.http.Transport = &named{agent: "Victim/1.0"}
			same := sim.Options{Name: "same", Members: []string{"pve1", "pve2"}}
			v.dc, v.host = b.newHost(t, same)
			if err := v.dc.AddContainer(sim.Container{VMID: 777, Name: "only-here"}); err != nil {
				t.Fatal(err)
			}
			b.advance(11 * time.Second)
			v.browser.signIn(v.host, "root@pam")
			hash, _ := session.HashToken(v.browser.token())
			v.session, v.hash = v.browser.sessionID(), hash.String()
			v.token, v.text = v.browser.makeToken("Victim's own", session.ScopeAll)
			v.entry = v.browser.entries("?whose=mine")[0]["id"].(string)
			page := v.browser.get("/api/containers?limit=1").json(t)
			v.cursor, v.version = page["next"].(string), page["version"].(string)
			at, err := addressOf(v.host)
			if err != nil {
				t.Fatal(err)
			}
			if v.known, err = b.store.LoginHostAt(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			v.work(t, b)
			if !strings.Contains(v.browser.get("/api/containers").body, "only-here") {
				t.Fatal("the victim does not see its own container")
			}

			v.nodes(t, b)

			_, fake := b.newHost(t, same)
			if change != nil {
				at, err := addressOf(fake)
				if err != nil {
					t.Fatal(err)
				}
				shown, err := pve.ParseFingerprint(fake.Fingerprint())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := b.KnowHost(t.Context(), at, shown); err != nil {
					t.Fatal(err)
				}
			}
			w := walk{bench: b, victim: v, host: fake, user: "root@pam", browser: b.browser(t)}
			w.everywhere(t)
			if change != nil {
				return
			}
			// And a user of the same host, whom the victim's containers are not shown to.
			v.neighbour = true
			w = walk{bench: b, victim: v, host: v.host, user: "alice@pve", browser: b.browser(t)}
			w.everywhere(t)
		})
	}
}

// everywhere walks every route, and once more with an access token whatever that opens; the victim notices nothing.
func (w *walk) everywhere(t *testing.T) {
	t.Helper()
	before := w.victim.state(t, w.bench)
	asked := settled(w.victim.host)
	w.browser.signIn(w.host, w.user)
	for _, route := range w.Routes() {
		w.try(t, route)
	}
	w.browser = w.bench.browser(t)
	w.browser.signIn(w.host, w.user)
	_, w.token = w.browser.makeToken("another one's", session.ScopeAll)
	for _, route := range w.Routes() {
		if route.Scope != session.SessionOnly {
			w.try(t, route)
		}
	}
	if w.named < 10 {
		t.Errorf("only %d requests named something of the victim's", w.named)
	}
	if n := len(w.victim.host.Requests()); n != asked && !w.victim.neighbour {
		t.Errorf("the victim's host was asked %d times", n-asked)
	}
	if after := w.victim.state(t, w.bench); after != before {
		t.Errorf("the victim has\n%s\nand had\n%s", after, before)
	}
}

// nodes gives the victim a node with a token, a token that is left over and a sign-in that waits.
func (v *victim) nodes(t *testing.T, b *bench) {
	t.Helper()
	v.door = v.browser.addNode(tokenNode(t, v.dc, v.host, "root@pam", "second"))["id"].(string)
	v.waits = v.browser.addNode(signInThere(v.host, "bob@pve", "third"))["tfa"].(map[string]any)["challenge"].(string)
	v.left = "left-over"
	of := session.Identity{Datacenter: v.known.Datacenter, UserID: "root@pam"}
	for _, err := range []error{
		b.store.BeginToken(t.Context(), node.MadeToken{ID: v.left, Owner: of, TokenID: "root@pam!berth-1", Created: b.now()}),
		b.store.LeaveToken(t.Context(), of, v.left),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// named is a client with a name of its own.
type named struct{ agent string }

func (n *named) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", n.agent)
	return http.DefaultTransport.RoundTrip(r)
}

// walk is a namesake on its way through the routes.
type walk struct {
	*bench
	victim  victim
	host    *sim.Host
	user    string
	browser *browser
	token   string // sent with each request, if there is one
	named   int    // how many requests named something of the victim's
}

// try asks a route for all that it can be asked for.
func (w *walk) try(t *testing.T, route web.Route) {
	t.Helper()
	if route.Access() == web.Public {
		// Nobody is somebody there, and a session changes nothing.
		w.send(t, route, strings.TrimSuffix(route.Path, "{$}"), nil, "")
		return
	}
	fields := inputFields(t, route)
	paths := []string{strings.TrimSuffix(route.Path, "{$}")}
	ids := []string{""} // what the request names, by path
	for strings.Contains(paths[0], "{") {
		var fuller, named []string
		for i, path := range paths {
			before, rest, _ := strings.Cut(path, "{")
			name, after, _ := strings.Cut(rest, "}")
			guesses, known := w.victim.guesses(name)
			if !known {
				t.Errorf("%s: what of another identity's could stand in its path? Add it to guesses", route.Pattern())
				return
			}
			for _, guess := range guesses {
				if guess == "" {
					guess = "start" // the only word that is the same for everybody and stands in a path
				}
				fuller, named = append(fuller, before+url.PathEscape(guess)+after), append(named, ids[i]+" "+guess)
			}
		}
		paths, ids = fuller, named
	}
	for i, path := range paths {
		for _, body := range w.bodies(t, route, fields) {
			w.send(t, route, path, body, ids[i])
		}
	}
}

// inputFields are the names that a route's input has. Pages have no declared one: they get every name that there is.
func inputFields(t *testing.T, route web.Route) []string {
	t.Helper()
	if route.Doc == nil || route.Doc.In == nil {
		if route.Shape == web.Page {
			return []string{"id", "host", "fingerprint", "whose", "before", "q", "loginHost", "sameAs", "challenge"}
		}
		return nil
	}
	var names []string
	for _, f := range reflect.VisibleFields(route.Doc.In) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// bodies are the inputs to try: none, each field with each guess, and all fields at once.
func (w *walk) bodies(t *testing.T, route web.Route, fields []string) []map[string]string {
	t.Helper()
	all := map[string]string{}
	bodies := []map[string]string{nil, all}
	for _, field := range fields {
		guesses, known := w.victim.guesses(field)
		if !known {
			t.Errorf("%s: what of another identity's could stand in %q? Add it to guesses", route.Pattern(), field)
		}
		for _, guess := range guesses {
			if guess == "" {
				continue
			}
			if all[field] == "" {
				all[field] = guess
			}
			bodies = append(bodies, map[string]string{field: guess})
		}
	}
	return bodies
}

// send sends one request and looks at what comes back.
func (w *walk) send(t *testing.T, route web.Route, path string, in map[string]string, id string) {
	t.Helper()
	if w.browser.token() == "" || !w.browser.signedIn() {
		w.browser = w.bench.browser(t)
		w.browser.signIn(w.host, w.user)
	}
	values := url.Values{}
	for name, value := range in {
		values.Set(name, value)
	}
	var r reply
	switch {
	case route.Method == http.MethodGet:
		r = w.browser.do(route.Method, path+"?"+values.Encode(), "", "", w.header()...)
	case route.Shape == web.API:
		body := map[string]any{}
		for name, value := range in {
			body[name] = value
			if json.Valid([]byte(value)) && strings.Trim(value[:1], "[{") == "" {
				body[name] = json.RawMessage(value)
			}
		}
		r = w.browser.do(route.Method, path, "application/json", jsonText(t, body), w.header()...)
	default:
		r = w.browser.do(route.Method, path, "application/x-www-form-urlencoded", values.Encode())
	}
	what := fmt.Sprintf("%s (%s with %v)", route.Pattern(), path, in)
	owners := slices.Contains(ownersRoutes, route.Pattern())
	switch {
	case owners && r.StatusCode != http.StatusForbidden && r.StatusCode != http.StatusUnprocessableEntity:
		t.Errorf("%s: %d, want 403 as for everybody who is no owner", what, r.StatusCode)
	case !owners && id != "" && r.StatusCode != http.StatusNotFound:
		t.Errorf("%s: %d, want 404", what, r.StatusCode)
	case !owners && in["whose"] == "everyone" && route.Access() != web.Public && r.StatusCode == http.StatusOK && strings.Contains(r.body, `"everyone":true`):
		t.Errorf("%s: everyone's for somebody who is no owner", what)
	case r.StatusCode >= http.StatusInternalServerError:
		t.Errorf("%s: %d %s", what, r.StatusCode, r.body)
	}
	if id != "" || len(in) > 0 {
		w.named++
	}
	for _, secret := range w.victim.secrets() {
		given := strings.Contains(id, secret) || slices.ContainsFunc(valuesOf(in), func(v string) bool { return strings.Contains(v, secret) })
		if !given && strings.Contains(r.body, secret) {
			t.Errorf("%s: the answer holds %s of the other one's", what, secret)
		}
	}
}

func (w *walk) header() []string {
	if w.token == "" {
		return nil
	}
	return []string{"Authorization", "Bearer " + w.token}
}

func valuesOf(in map[string]string) []string {
	var values []string
	for _, v := range in {
		values = append(values, v)
	}
	return values
}

// A node of another identity, named by its id, does not exist.
func TestAbuseNodeOfAnotherIdentity(t *testing.T) {
	b := newBench(t)
	_, mine := b.newHost(t, sim.Options{})
	_, other := b.newHost(t, sim.Options{})
	one, two := b.browser(t), b.browser(t)
	one.signIn(mine, "root@pam")
	two.signIn(other, "root@pam")
	nodeOf := func(b *browser) string {
		t.Helper()
		return b.get("/api/containers").json(t)["nodes"].([]any)[0].(map[string]any)["nodeId"].(string)
	}
	guessed := nodeOf(two)
	if nodeOf(one) == guessed {
		t.Fatal("two installations are one node")
	}
	found, err := b.sessions.Find(t.Context(), one.token())
	if err != nil {
		t.Fatal(err)
	}
	asked := settled(other)
	for _, id := range []string{guessed, "", "1", strings.ToUpper(guessed)} {
		err := b.nodes.Call(t.Context(), session.Caller{Identity: found.Identity, Session: found}, id, func(context.Context, *pve.Host, pve.Credentials) error {
			t.Errorf("%q: a call was made", id)
			return nil
		})
		if err == nil {
			t.Errorf("%q is a node of root@pam", id)
		}
	}
	if len(other.Requests()) != asked {
		t.Error("the other installation was asked")
	}
}
