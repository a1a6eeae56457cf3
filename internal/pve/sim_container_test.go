package pve_test

import (
	"slices"
	"testing"
	"time"

	"berth/internal/pve"
)

// TestSimulatedContainer is what one container's page asks, and what it changes.
func TestSimulatedContainer(t *testing.T) {
	w := newWorld(t)
	ctx, root, alice := t.Context(), w.signIn("root@pam"), w.signIn("alice@pve")

	list, err := w.host.Interfaces(ctx, alice, "pve2", 101)
	if err != nil || len(list) != 2 || list[1].Name != "eth0" || len(list[1].Addresses) != 2 || !list[1].Addresses[0].Addr().Is4() {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := w.host.Interfaces(ctx, alice, "pve1", 102); err != nil || len(list) != 0 {
		t.Errorf("of a stopped one: %+v, %v", list, err)
	}
	for frame, want := range map[pve.Timeframe]int{pve.LastHour: 60, pve.LastDay: 1440, pve.LastWeek: 336, pve.LastMonth: 1440, pve.LastYear: 1440} {
		points, err := w.host.History(ctx, alice, "pve2", 101, frame, pve.Average)
		if err != nil || len(points) != want || points[0].Time.IsZero() || !points[want-1].CPU.Known || points[0].MaxMem.Value == 0 {
			t.Errorf("%s: %d points, %v", frame, len(points), err)
		}
	}
	if points, err := w.host.History(ctx, root, "pve1", 102, pve.LastHour, pve.Maximum); err != nil || len(points) != 60 || points[0].CPU.Known {
		t.Errorf("of a stopped one: %d points, %v", len(points), err)
	}

	config, err := w.host.ContainerConfig(ctx, root, "pve2", 101)
	if err != nil {
		t.Fatal(err)
	}
	text, tags := "# Cloud\n\n& more", []string{"Cloud", "new"}
	change := pve.ConfigChange{Tags: &tags, Description: &text, Digest: config.Digest}
	if err := w.host.SetContainerConfig(ctx, alice, "pve2", 101, change); !pve.IsKind(err, pve.KindForbidden) {
		t.Errorf("without VM.Config.Options: %v", err)
	}
	if err := w.host.SetContainerConfig(ctx, root, "pve2", 101, change); err != nil {
		t.Error(err)
	}
	if err := w.host.SetContainerConfig(ctx, root, "pve2", 101, change); !pve.IsKind(err, pve.KindChanged) {
		t.Errorf("from an old reading: %v", err)
	}
	changed, err := w.host.ContainerConfig(ctx, root, "pve2", 101)
	if err != nil || !slices.Equal(changed.Tags, []string{"cloud", "new"}) || changed.Description != text+"\n" || changed.Digest == config.Digest {
		t.Errorf("%+v, %v", changed, err)
	}
	if err := w.host.SetContainerConfig(ctx, root, "pve2", 101, pve.ConfigChange{Tags: &[]string{"$"}}); !pve.IsKind(err, pve.KindInvalidParameters) {
		t.Errorf("what is no tag: %v", err)
	}
	if err := w.host.SetContainerConfig(ctx, root, "pve2", 101, pve.ConfigChange{Tags: &[]string{}, Digest: changed.Digest}); err != nil {
		t.Error(err)
	}
	if changed, err = w.host.ContainerConfig(ctx, root, "pve2", 101); err != nil || len(changed.Tags) != 0 || changed.Description == "" {
		t.Errorf("%+v, %v", changed, err)
	}
}

// checkExpiry: a token of alice@pve with an hour to live dies, lives again with a later end, and is listed without its secret.
func (w *world) checkExpiry(root pve.Ticket, token pve.Token) {
	w.Helper()
	ctx := w.Context()
	alice := w.signIn("alice@pve")
	w.pass(61 * time.Minute)
	if _, err := w.host.Version(ctx, token); !pve.IsKind(err, pve.KindUnauthenticated) {
		w.Errorf("an expired token: %v", err)
	}
	end := w.now().Add(24 * time.Hour).Truncate(time.Second)
	if err := w.host.SetTokenExpiry(ctx, alice, "alice@pve", "less", end); err != nil {
		w.Error(err)
	}
	if _, err := w.host.Version(ctx, token); err != nil {
		w.Errorf("with a later end: %v", err)
	}
	list, err := w.host.Tokens(ctx, alice, "alice@pve")
	at := slices.IndexFunc(list, func(t pve.TokenInfo) bool { return t.Name == "less" })
	if err != nil || at < 0 || list[at].FullPrivileges || !list[at].Expire.Equal(end) {
		w.Errorf("%+v, %v", list, err)
	}
	for name, err := range map[string]error{
		"list": func() error { _, err := w.host.Tokens(ctx, token, "alice@pve"); return err }(),
		"create": func() error {
			_, err := w.host.CreateToken(ctx, token, "alice@pve", "more", pve.TokenOptions{})
			return err
		}(),
		"renew":  w.host.SetTokenExpiry(ctx, token, "alice@pve", "less", time.Time{}),
		"delete": w.host.DeleteToken(ctx, token, "alice@pve", "less"),
	} {
		if !pve.IsKind(err, pve.KindForbidden) {
			w.Errorf("a token's own %s: %v", name, err)
		}
	}
	if err := w.host.SetTokenExpiry(ctx, root, "alice@pve", "gone", end); !pve.IsKind(err, pve.KindNotFound) {
		w.Errorf("no such token: %v", err)
	}
	if err := w.host.SetTokenExpiry(ctx, root, "alice@pve", "less", time.Time{}); err != nil {
		w.Error(err)
	}
}
