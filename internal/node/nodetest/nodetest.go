package nodetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
)

// Fixture is a store under test. NewHost returns the ids of a datacenter and of a login host of it that pins a key, and
// RemoveHost removes a login host.
type Fixture struct {
	Store      node.Store
	NewHost    func(t *testing.T, key pve.KeyPin) (datacenter, loginHost string)
	RemoveHost func(t *testing.T, loginHost string)
	// Attach gives an identity something, by what it is, that keeps it.
	Attach map[string]func(t *testing.T, of session.Identity)
}

var begin = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)

const most = 5

// bySession is the first node of a new identity.
func (f Fixture) bySession(t *testing.T) node.Record {
	t.Helper()
	datacenter, host := f.NewHost(t, pve.KeyPin{1})
	return node.Record{Node: node.Node{
		ID: rand.Text(), Owner: session.Identity{Datacenter: datacenter, UserID: "alice@pve"}, Name: "Home",
		Address: pve.Address{Host: "pve.lan", Port: 8006}, Credential: node.BySession, LoginHost: host, Cluster: datacenter,
		IsDefault: true, Created: begin,
	}}
}

// welcome makes an identity with its first node.
func (f Fixture) welcome(t *testing.T) node.Record {
	t.Helper()
	first := f.bySession(t)
	if made, err := f.Store.Welcome(t.Context(), first, begin); err != nil || !made {
		t.Fatalf("welcome: %v, %v", made, err)
	}
	return first
}

// byToken is a further node of an identity.
func byToken(of session.Identity, name string) node.Record {
	return node.Record{
		Node: node.Node{
			ID: rand.Text(), Owner: of, Name: name, Address: pve.Address{Host: "10.0.0.2", Port: 443}, Key: &pve.KeyPin{7, 8},
			Fingerprint: pve.Fingerprint{9}, Credential: node.ByMadeToken, TokenID: "alice@pve!berth-1",
			TokenExpires: begin.Add(time.Hour), Cluster: rand.Text(), Created: begin.Add(time.Minute),
		},
		Secret: []byte{0, 1, 2, 255}, SaidGroup: "said",
		Members: node.Members{Names: []string{"pve1"}, Fingerprints: []pve.Fingerprint{{3}}, Guests: []string{"abc"}},
	}
}

// Contract runs the suite. empty returns an empty store each time it is called.
func Contract(t *testing.T, empty func(t *testing.T) Fixture) {
	ctx := context.Background()
	create := func(t *testing.T, f Fixture, r node.Record) node.Record {
		t.Helper()
		if err := f.Store.CreateNode(ctx, r, "", most); err != nil {
			t.Fatalf("create: %v", err)
		}
		return r
	}
	list := func(t *testing.T, f Fixture, of session.Identity) []node.Record {
		t.Helper()
		nodes, err := f.Store.Nodes(ctx, of)
		if err != nil {
			t.Fatalf("nodes: %v", err)
		}
		return nodes
	}
	names := func(t *testing.T, f Fixture, of session.Identity) []string {
		t.Helper()
		var names []string
		for _, n := range list(t, f, of) {
			name := n.Name
			if n.IsDefault {
				name += "*"
			}
			names = append(names, name)
		}
		return names
	}
	stranger := func(t *testing.T, f Fixture) session.Identity {
		t.Helper()
		return f.welcome(t).Owner
	}
	wantErr := func(t *testing.T, what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}

	t.Run("an identity is welcomed once", func(t *testing.T) {
		f := empty(t)
		first := f.welcome(t)
		again := first
		again.ID = rand.Text()
		if made, err := f.Store.Welcome(ctx, again, begin.Add(time.Hour)); err != nil || made {
			t.Errorf("again: %v, %v", made, err)
		}
		if got := list(t, f, first.Owner); !reflect.DeepEqual(got, []node.Record{first}) {
			t.Errorf("nodes %+v, want %+v", got, first)
		}
		if at, err := f.Store.LastSignIn(ctx, first.Owner); err != nil || !at.Equal(begin) {
			t.Errorf("signed in at %v, %v", at, err)
		}
	})
	t.Run("of many welcomes at once one makes the node", func(t *testing.T) {
		f := empty(t)
		first := f.bySession(t)
		var wg sync.WaitGroup
		made := make([]bool, 50)
		for i := range made {
			wg.Go(func() {
				mine := first
				mine.ID = rand.Text()
				var err error
				if made[i], err = f.Store.Welcome(ctx, mine, begin); err != nil {
					t.Errorf("welcome: %v", err)
				}
			})
		}
		wg.Wait()
		if n := count(made, true); n != 1 || len(list(t, f, first.Owner)) != 1 {
			t.Errorf("%d made the identity, which has %d nodes", n, len(list(t, f, first.Owner)))
		}
	})
	t.Run("what nobody has is said to be so", func(t *testing.T) {
		f := empty(t)
		nobody := session.Identity{Datacenter: "nowhere", UserID: "nobody@pve"}
		_, err := f.Store.Nodes(ctx, nobody)
		wantErr(t, "nodes", err, node.ErrNoIdentity)
		_, err = f.Store.LastSignIn(ctx, nobody)
		wantErr(t, "last sign-in", err, node.ErrNoIdentity)
		_, err = f.Store.Preferences(ctx, nobody)
		wantErr(t, "preferences", err, node.ErrNoIdentity)
		wantErr(t, "set preferences", f.Store.SetPreferences(ctx, nobody, "{}"), node.ErrNoIdentity)
		wantErr(t, "note a sign-in", f.Store.NoteSignIn(ctx, nobody, begin), node.ErrNoIdentity)
		wantErr(t, "create", f.Store.CreateNode(ctx, byToken(nobody, "n"), "", most), node.ErrNoIdentity)
	})
	t.Run("sign-ins and preferences are of one identity", func(t *testing.T) {
		f := empty(t)
		mine, other := f.welcome(t).Owner, stranger(t, f)
		later := begin.Add(time.Hour)
		if err := f.Store.NoteSignIn(ctx, mine, later); err != nil {
			t.Fatal(err)
		}
		if err := f.Store.SetPreferences(ctx, mine, `{"a":1}`); err != nil {
			t.Fatal(err)
		}
		for of, want := range map[session.Identity]string{mine: `{"a":1}`, other: ""} {
			if got, err := f.Store.Preferences(ctx, of); err != nil || got != want {
				t.Errorf("preferences %q, %v; want %q", got, err, want)
			}
		}
		for of, want := range map[session.Identity]time.Time{mine: later, other: begin} {
			if got, err := f.Store.LastSignIn(ctx, of); err != nil || !got.Equal(want) {
				t.Errorf("last sign-in %v, %v; want %v", got, err, want)
			}
		}
	})
	t.Run("what is created is listed, whole, the default first, then by name", func(t *testing.T) {
		f := empty(t)
		first := f.welcome(t)
		b, a := create(t, f, byToken(first.Owner, "beta")), create(t, f, byToken(first.Owner, "Alpha"))
		stranger(t, f)
		if got, want := list(t, f, first.Owner), []node.Record{first, a, b}; !reflect.DeepEqual(got, want) {
			t.Errorf("listed\n%+v, want\n%+v", got, want)
		}
	})
	t.Run("names are unique for each owner, whatever their case", func(t *testing.T) {
		f := empty(t)
		mine, other := f.welcome(t).Owner, stranger(t, f)
		wantErr(t, "create", f.Store.CreateNode(ctx, byToken(mine, "hOME"), "", most), node.ErrNameTaken)
		second := create(t, f, byToken(mine, "second"))
		create(t, f, byToken(other, "second"))
		second.Name = "HOME"
		wantErr(t, "change", f.Store.ChangeNode(ctx, second, ""), node.ErrNameTaken)
		second.Name = "SECOND"
		if err := f.Store.ChangeNode(ctx, second, ""); err != nil {
			t.Errorf("the same name in capitals: %v", err)
		}
	})
	t.Run("there are at most so many, also at once", func(t *testing.T) {
		f := empty(t)
		mine := f.welcome(t).Owner
		var wg sync.WaitGroup
		errs := make([]error, 50)
		for i := range errs {
			wg.Go(func() { errs[i] = f.Store.CreateNode(ctx, byToken(mine, fmt.Sprint("n", i)), "", most) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				wantErr(t, "create", err, node.ErrTooMany)
			}
		}
		if n := len(list(t, f, mine)); n != most {
			t.Errorf("%d nodes, want %d", n, most)
		}
	})
	t.Run("a change replaces all but the default", func(t *testing.T) {
		f := empty(t)
		first := f.welcome(t)
		r := create(t, f, byToken(first.Owner, "second"))
		want := byToken(first.Owner, "third")
		want.ID, want.Created = r.ID, r.Created
		want.Key, want.Fingerprint, want.Secret, want.Credential = nil, pve.Fingerprint{4}, []byte("x"), node.ByToken
		want.TokenExpires, want.SaidGroup, want.Members = time.Time{}, "", node.Members{}
		changed := want
		changed.IsDefault = true
		if err := f.Store.ChangeNode(ctx, changed, ""); err != nil {
			t.Fatal(err)
		}
		want.Version = 1
		if got := list(t, f, first.Owner); !reflect.DeepEqual(got, []node.Record{first, want}) {
			t.Errorf("listed\n%+v, want\n%+v", got[1], want)
		}
	})
	t.Run("a change counts only if it was made from the node as it is", func(t *testing.T) {
		for what, meanwhile := range map[string]func(f Fixture, r node.Record) error{
			"changed": func(f Fixture, r node.Record) error {
				r.Address.Host = "10.0.0.3"
				return f.Store.ChangeNode(ctx, r, "")
			},
			"renamed": func(f Fixture, r node.Record) error { return f.Store.RenameNode(ctx, r.Owner, r.ID, "other") },
			"grouped": func(f Fixture, r node.Record) error { return f.Store.GroupNodes(ctx, r.Owner, "said", r.ID) },
			"joined":  func(f Fixture, r node.Record) error { return f.Store.JoinClusters(ctx, "into", []string{r.Cluster}) },
		} {
			f := empty(t)
			r := create(t, f, byToken(f.welcome(t).Owner, "second"))
			if err := meanwhile(f, r); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			before := list(t, f, r.Owner)[1]
			r.Secret = []byte("old")
			wantErr(t, what, f.Store.ChangeNode(ctx, r, ""), node.ErrChanged)
			if got := list(t, f, r.Owner)[1]; !reflect.DeepEqual(got, before) {
				t.Errorf("%s, then lost a change:\n%+v, want\n%+v", what, got, before)
			}
			before.TokenID = "alice@pve!again"
			if err := f.Store.ChangeNode(ctx, before, ""); err != nil {
				t.Errorf("%s, then changed as it is: %v", what, err)
			}
		}
	})
	t.Run("of many changes at once one counts", func(t *testing.T) {
		f := empty(t)
		r := create(t, f, byToken(f.welcome(t).Owner, "second"))
		errs := make([]error, 20)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = f.Store.ChangeNode(ctx, r, "") })
		}
		wg.Wait()
		if n := count(errs, nil); n != 1 {
			t.Errorf("%d changes were stored: %v", n, errs)
		}
	})
	t.Run("a new name changes nothing else", func(t *testing.T) {
		f := empty(t)
		mine, other := f.welcome(t), stranger(t, f)
		want := create(t, f, byToken(mine.Owner, "second"))
		wantErr(t, "taken", f.Store.RenameNode(ctx, mine.Owner, want.ID, "HOME"), node.ErrNameTaken)
		wantErr(t, "somebody else's", f.Store.RenameNode(ctx, other, want.ID, "mine now"), node.ErrNone)
		if err := f.Store.RenameNode(ctx, mine.Owner, want.ID, "SECOND"); err != nil {
			t.Fatal(err)
		}
		want.Name, want.Version = "SECOND", 1
		if got := list(t, f, mine.Owner)[1]; !reflect.DeepEqual(got, want) {
			t.Errorf("renamed\n%+v, want\n%+v", got, want)
		}
	})
	t.Run("what a test found counts for the address that was tested", func(t *testing.T) {
		f := empty(t)
		r := create(t, f, byToken(f.welcome(t).Owner, "second"))
		r.Fingerprint, r.Members = pve.Fingerprint{5}, node.Members{Names: []string{"pve9"}}
		if err := f.Store.NoteMembers(ctx, r); err != nil {
			t.Fatal(err)
		}
		if got := list(t, f, r.Owner)[1]; !reflect.DeepEqual(got, r) {
			t.Errorf("noted\n%+v, want\n%+v", got, r)
		}
		late := r
		late.Address.Port, late.Fingerprint = 8007, pve.Fingerprint{6}
		if err := f.Store.NoteMembers(ctx, late); err != nil {
			t.Fatal(err)
		}
		if got := list(t, f, r.Owner)[1]; !reflect.DeepEqual(got, r) {
			t.Errorf("noted of another address\n%+v, want\n%+v", got, r)
		}
	})
	t.Run("what is somebody else's can't be changed", func(t *testing.T) {
		f := empty(t)
		mine, other := f.welcome(t), stranger(t, f)
		theirs := mine
		theirs.Owner = other
		wantErr(t, "change", f.Store.ChangeNode(ctx, theirs, ""), node.ErrNameTaken) // "Home" is theirs too
		theirs.Name = "another"
		wantErr(t, "change", f.Store.ChangeNode(ctx, theirs, ""), node.ErrNone)
		wantErr(t, "remove", f.Store.RemoveNode(ctx, other, mine.ID), node.ErrNone)
		wantErr(t, "make default", f.Store.SetDefaultNode(ctx, other, mine.ID), node.ErrNone)
		wantErr(t, "group", f.Store.GroupNodes(ctx, other, "g", mine.ID), node.ErrNone)
		wantErr(t, "extend", f.Store.ExtendToken(ctx, other, mine.ID, mine.TokenID, begin), node.ErrNone)
		if got := names(t, f, other); !slices.Equal(got, []string{"Home*"}) {
			t.Errorf("a refused change left %v", got)
		}
		if got := list(t, f, mine.Owner); !reflect.DeepEqual(got, []node.Record{mine}) {
			t.Errorf("mine: %+v", got)
		}
	})
	t.Run("the default is passed on", func(t *testing.T) {
		f := empty(t)
		first := f.welcome(t)
		of := first.Owner
		b, a := create(t, f, byToken(of, "b")), create(t, f, byToken(of, "a"))
		check := func(want ...string) {
			t.Helper()
			if got := names(t, f, of); !slices.Equal(got, want) {
				t.Errorf("nodes %v, want %v", got, want)
			}
		}
		if err := f.Store.SetDefaultNode(ctx, of, b.ID); err != nil {
			t.Fatal(err)
		}
		check("b*", "a", "Home")
		for _, step := range []struct {
			id   string
			want []string
		}{{b.ID, []string{"a*", "Home"}}, {first.ID, []string{"a*"}}, {a.ID, nil}} {
			if err := f.Store.RemoveNode(ctx, of, step.id); err != nil {
				t.Fatal(err)
			}
			check(step.want...)
		}
		wantErr(t, "remove again", f.Store.RemoveNode(ctx, of, a.ID), node.ErrNone)
		create(t, f, byToken(of, "new"))
		check("new*")
		c := byToken(of, "chosen")
		c.IsDefault = true
		create(t, f, c)
		check("chosen*", "new")
	})
	t.Run("there is exactly one default, whatever happens at once", func(t *testing.T) {
		f := empty(t)
		of := f.welcome(t).Owner
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				r := byToken(of, fmt.Sprint("n", i))
				r.IsDefault = i%3 == 0
				if err := f.Store.CreateNode(ctx, r, "", 100); err != nil {
					t.Errorf("create: %v", err)
				}
				for _, n := range list(t, f, of)[:1] { // the default of that moment
					if err := f.Store.RemoveNode(ctx, of, n.ID); err != nil && !errors.Is(err, node.ErrNone) {
						t.Errorf("remove: %v", err)
					}
				}
				if err := f.Store.SetDefaultNode(ctx, of, r.ID); err != nil && !errors.Is(err, node.ErrNone) {
					t.Errorf("make default: %v", err)
				}
				defaults := 0
				nodes := list(t, f, of)
				for _, n := range nodes {
					if n.IsDefault {
						defaults++
					}
				}
				if len(nodes) > 0 && defaults != 1 {
					t.Errorf("%d defaults of %d nodes", defaults, len(nodes))
				}
			})
		}
		wg.Wait()
	})
	t.Run("a login host that was removed leaves the node", func(t *testing.T) {
		f := empty(t)
		first := f.welcome(t)
		f.RemoveHost(t, first.LoginHost)
		first.LoginHost = ""
		if got := list(t, f, first.Owner); !reflect.DeepEqual(got, []node.Record{first}) {
			t.Errorf("nodes %+v, want %+v", got, first)
		}
	})
	t.Run("nodes are found by what they showed", func(t *testing.T) {
		f := empty(t)
		of := f.welcome(t).Owner
		a, b := byToken(of, "a"), byToken(of, "b")
		b.Key, b.Fingerprint = nil, pve.Fingerprint{77}
		create(t, f, a)
		create(t, f, b)
		for _, test := range []struct {
			key   *pve.KeyPin
			shown []pve.Fingerprint
			want  []string
		}{
			{a.Key, nil, []string{a.ID}}, {nil, []pve.Fingerprint{{77}, {78}}, []string{b.ID}},
			{a.Key, []pve.Fingerprint{a.Fingerprint, b.Fingerprint}, []string{a.ID, b.ID}}, {&pve.KeyPin{}, []pve.Fingerprint{{}}, nil}, {nil, nil, nil},
		} {
			found, err := f.Store.NodesShowing(ctx, test.key, test.shown)
			var ids []string
			for _, r := range found {
				ids = append(ids, r.ID)
			}
			if err != nil || !slices.Equal(ids, test.want) {
				t.Errorf("found %v, %v; want %v", ids, err, test.want)
			}
		}
		datacenters, err := f.Store.DatacentersPinning(ctx, pve.KeyPin{1})
		if err != nil || !slices.Equal(datacenters, []string{of.Datacenter}) {
			t.Errorf("datacenters %v, %v; want %v", datacenters, err, of.Datacenter)
		}
	})
	t.Run("clusters are joined, those of datacenters stay", func(t *testing.T) {
		f := empty(t)
		first, other := f.welcome(t), f.welcome(t)
		a, b := create(t, f, byToken(first.Owner, "a")), create(t, f, byToken(other.Owner, "b"))
		if err := f.Store.JoinClusters(ctx, "one", []string{a.Cluster, b.Cluster, first.Cluster}); err != nil {
			t.Fatal(err)
		}
		mine, theirs := list(t, f, first.Owner), list(t, f, other.Owner)
		if mine[0].Cluster != first.Cluster || mine[1].Cluster != "one" || theirs[1].Cluster != "one" {
			t.Errorf("clusters %s, %s, %s", mine[0].Cluster, mine[1].Cluster, theirs[1].Cluster)
		}
		if err := f.Store.GroupNodes(ctx, first.Owner, "g", first.ID, a.ID); err != nil {
			t.Fatal(err)
		}
		if mine = list(t, f, first.Owner); mine[0].SaidGroup != "g" || mine[1].SaidGroup != "g" {
			t.Errorf("groups %q, %q", mine[0].SaidGroup, mine[1].SaidGroup)
		}
	})
	t.Run("whoever has nothing here is forgotten", func(t *testing.T) { idle(t, empty(t)) })
	t.Run("tokens that were made", func(t *testing.T) { tokens(t, empty(t)) })
}

// tokens is the life of tokens that Berth makes on hosts.
func tokens(t *testing.T, f Fixture) {
	ctx := t.Context()
	first := f.welcome(t)
	of, other := first.Owner, f.welcome(t).Owner
	r := byToken(of, "n")
	begun := node.MadeToken{
		ID: "t1", Owner: of, NodeID: r.ID, NodeName: r.Name, Address: r.Address, LoginHost: first.LoginHost, Key: r.Key,
		TokenID: r.TokenID, State: node.TokenPending, Created: begin, Expires: begin.Add(time.Hour),
	}
	check := func(want ...node.MadeToken) {
		t.Helper()
		got, err := f.Store.MadeTokens(ctx, of)
		if err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("tokens\n%+v, %v; want\n%+v", got, err, want)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check()
	do(f.Store.BeginToken(ctx, begun))
	check(begun)
	if err := f.Store.CreateNode(ctx, r, "unknown", most); !errors.Is(err, node.ErrNone) {
		t.Errorf("a node with a token that was never begun: %v, want ErrNone", err)
	}
	do(f.Store.CreateNode(ctx, r, begun.ID, most))
	begun.State = node.TokenActive
	check(begun)

	later := begin.Add(48 * time.Hour)
	do(f.Store.ExtendToken(ctx, of, r.ID, r.TokenID, later))
	begun.Expires = later
	check(begun)
	if nodes, err := f.Store.Nodes(ctx, of); err != nil || !nodes[1].TokenExpires.Equal(later) {
		t.Errorf("the node's token expires at %v, %v; want %v", nodes[1].TokenExpires, err, later)
	}
	if err := f.Store.ExtendToken(ctx, of, r.ID, "alice@pve!other", later); !errors.Is(err, node.ErrNone) {
		t.Errorf("extend another token: %v, want ErrNone", err)
	}

	r.Name = "renamed"
	do(f.Store.ChangeNode(ctx, r, ""))
	r.Version++
	check(begun) // a node that keeps its token leaves none over
	second := begun
	second.ID, second.TokenID, second.Created = "t2", "alice@pve!berth-2", begin.Add(time.Minute)
	do(f.Store.BeginToken(ctx, second))
	r.TokenID = second.TokenID
	do(f.Store.ChangeNode(ctx, r, second.ID))
	begun.State, second.State = node.TokenLeftOver, node.TokenActive
	check(begun, second)

	for _, err := range []error{f.Store.DropToken(ctx, other, begun.ID), f.Store.LeaveToken(ctx, other, second.ID)} {
		if !errors.Is(err, node.ErrNone) {
			t.Errorf("somebody else's token: %v, want ErrNone", err)
		}
	}
	do(f.Store.DropToken(ctx, of, begun.ID))
	check(second)
	do(f.Store.RemoveNode(ctx, of, r.ID))
	second.State = node.TokenLeftOver
	check(second)
	third := second
	third.ID, third.Created = "t3", begin.Add(time.Hour)
	do(f.Store.BeginToken(ctx, third))
	do(f.Store.LeaveToken(ctx, of, third.ID))
	check(second, third)
	f.RemoveHost(t, first.LoginHost)
	second.LoginHost, third.LoginHost = "", ""
	check(second, third)
}

func count[T comparable](all []T, one T) (n int) {
	for _, v := range all {
		if v == one {
			n++
		}
	}
	return n
}
