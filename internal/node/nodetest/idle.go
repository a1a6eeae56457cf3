package nodetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"berth/internal/node"
	"berth/internal/session"
)

// idle is the end of those who have nothing here.
func idle(t *testing.T, f Fixture) {
	ctx := t.Context()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	month := begin.Add(30 * 24 * time.Hour)
	gone, away := f.welcome(t), f.welcome(t)
	do(f.Store.SetPreferences(ctx, gone.Owner, `{"a":1}`))
	do(f.Store.RenameNode(ctx, gone.Owner, gone.ID, "renamed"))
	do(f.Store.RemoveNode(ctx, away.Owner, away.ID))
	kept := map[string]node.Record{}
	keep := func(why string, having func(r node.Record) error) {
		t.Helper()
		kept[why] = f.welcome(t)
		do(having(kept[why]))
	}
	keep("signed in lately", func(r node.Record) error { return f.Store.NoteSignIn(ctx, r.Owner, month) })
	keep("a node of their own", func(r node.Record) error { return f.Store.CreateNode(ctx, byToken(r.Owner, "own"), "", most) })
	keep("a second node by sign-in", func(r node.Record) error {
		second := r
		second.ID, second.Name, second.IsDefault, second.Created = "second", "second", false, begin.Add(time.Minute)
		return f.Store.CreateNode(ctx, second, "", most)
	})
	keep("the first node, with a token", func(r node.Record) error {
		r.Credential, r.TokenID, r.Secret = node.ByToken, "alice@pve!own", []byte("x")
		return f.Store.ChangeNode(ctx, r, "")
	})
	keep("a token that is left over", func(r node.Record) error {
		return f.Store.BeginToken(ctx, node.MadeToken{
			ID: "t", Owner: r.Owner, NodeID: "gone", NodeName: "gone", Address: r.Address, TokenID: "alice@pve!berth-1",
			State: node.TokenPending, Created: begin, Expires: begin,
		})
	})
	for what, attach := range f.Attach {
		keep(what, func(r node.Record) error { attach(t, r.Owner); return nil })
	}

	remove := func(before time.Time, most int, want ...session.Identity) {
		t.Helper()
		removed, err := f.Store.RemoveIdle(ctx, before, most)
		slices.SortFunc(removed, func(a, b session.Identity) int { return slices.Index(want, a) - slices.Index(want, b) })
		if err != nil || !slices.Equal(removed, want) {
			t.Errorf("before %v: removed %v, %v; want %v", before, removed, err, want)
		}
	}
	remove(begin, 10)
	if removed, err := f.Store.RemoveIdle(ctx, month, 1); err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v; want one of two", removed, err)
	} else if removed[0] == gone.Owner {
		remove(month, 10, away.Owner)
	} else {
		remove(month, 10, gone.Owner)
	}
	for _, of := range []session.Identity{gone.Owner, away.Owner} {
		if _, err := f.Store.Nodes(ctx, of); !errors.Is(err, node.ErrNoIdentity) {
			t.Errorf("nodes of one who was removed: %v", err)
		}
	}
	for why, r := range kept {
		if _, err := f.Store.LastSignIn(ctx, r.Owner); err != nil {
			t.Errorf("%s: %v", why, err)
		}
		if nodes, err := f.Store.Nodes(ctx, r.Owner); err != nil || !slices.ContainsFunc(nodes, func(n node.Record) bool { return n.ID == r.ID }) {
			t.Errorf("%s: nodes %v, %v", why, nodes, err)
		}
	}
	if made, err := f.Store.Welcome(ctx, gone, month); err != nil || !made {
		t.Errorf("whoever comes back: %v, %v", made, err)
	}
}
