package web

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"berth/internal/auth"
	"berth/internal/web/view"
)

// offerRealms fills the list of realms for the host that stands in the form, and makes sure that one of them is chosen: that
// behind the last @ of the user name, as in a sign-in; else the given one if it is there, else the host's own choice.
func (s *Site) offerRealms(ctx context.Context, page *view.Login) {
	in := auth.RealmsInput{Host: page.Host}
	if page.Port != "" {
		in.Port = auth.NewPort(page.Port)
	}
	list, err := s.o.Auth.Realms(ctx, in)
	if err != nil {
		// The form can do without; who sends it is told.
		if ctx.Err() == nil {
			slog.WarnContext(ctx, "realms not listed", "cause", err)
		}
		return
	}
	chosen := ""
	page.Realms = nil
	for _, r := range list {
		page.Realms = append(page.Realms, view.Realm{Name: r.Name, Comment: r.Comment, OpenID: r.OpenID(), Unavailable: r.Unavailable})
		if r.Unavailable == "" && (chosen == "" || r.Default) {
			chosen = r.Name
		}
	}
	offered := func(name string) bool {
		return slices.ContainsFunc(list, func(r auth.Realm) bool { return r.Name == name && r.Unavailable == "" })
	}
	if at := strings.LastIndexByte(page.Username, '@'); at >= 0 && offered(page.Username[at+1:]) {
		page.Realm = page.Username[at+1:]
	}
	if !offered(page.Realm) {
		page.Realm = chosen
	}
}
