package web

import (
	"context"
	"net/http"
	"net/url"

	"berth/internal/session"
	"berth/internal/web/view"
)

// preferences are all that is remembered of how one identity wants to see the pages: see node.Service.Preferences.
type preferences struct {
	Dashboard struct {
		// Columns are the names of the chosen ones; nil for those that everybody begins with.
		Columns []string `json:"columns,omitzero"`
		Cards   bool     `json:"cards,omitzero"`
	} `json:"dashboard,omitzero"`
}

// layout is how the caller wants to see the list of containers.
func (s *Site) layout(ctx context.Context, caller session.Caller) (view.Layout, error) {
	var p preferences
	if err := s.o.Nodes.Preferences(ctx, caller, &p); err != nil {
		return view.Layout{}, err
	}
	return view.Layout{Columns: p.Dashboard.Columns, Cards: p.Dashboard.Cards}, nil
}

// layoutChange remembers the shape and the columns of the list, and leads back to it.
func (s *Site) layoutChange(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	if err := r.ParseForm(); err != nil {
		return unreadable(err)
	}
	var p preferences
	if err := s.o.Nodes.Preferences(r.Context(), caller, &p); err != nil {
		return err
	}
	p.Dashboard.Cards = r.PostForm.Get("shape") == "cards"
	p.Dashboard.Columns = []string{}
	for _, c := range view.Columns {
		if !c.Fixed && r.PostForm.Has(c.Name) {
			p.Dashboard.Columns = append(p.Dashboard.Columns, c.Name)
		}
	}
	if err := s.o.Nodes.SetPreferences(r.Context(), caller, p); err != nil {
		return err
	}
	back := "/"
	if query, err := url.ParseQuery(r.PostForm.Get("next")); err == nil && len(query) > 0 {
		back += "?" + query.Encode()
	}
	s.redirect(w, r, back)
	return nil
}
