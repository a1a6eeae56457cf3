package web

import (
	"net/http"
	"strconv"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/web/view"
)

// hostRoutes are the pages with which owners manage the login hosts.
func (s *Site) hostRoutes() []Route {
	return []Route{
		AuthenticatedRoute("GET", "/settings/hosts", Page, s.hosts),
		AuthenticatedRoute("POST", "/settings/hosts", Page, s.hostAdd),
		AuthenticatedRoute("GET", "/settings/hosts/{id}/repin", Page, s.hostRepinShow),
		AuthenticatedRoute("POST", "/settings/hosts/{id}/repin", Page, s.hostRepin),
		AuthenticatedRoute("GET", "/settings/hosts/{id}/remove", Page, s.hostRemoveShow),
		AuthenticatedRoute("POST", "/settings/hosts/{id}/remove", Page, s.hostRemove),
	}
}

// doneTexts are what the page says after a change; the address only names one of them.
var doneTexts = map[string]string{
	"added":    "The host was added: people can sign in with it now.",
	"repinned": "The new certificate is accepted.",
	"removed":  "The host was removed, and the sessions there have ended.",
}

func (s *Site) hostsPage(r *http.Request, caller session.Caller) (view.LoginHosts, error) {
	list, err := s.o.Auth.ListHosts(r.Context(), caller, auth.None{})
	if err != nil {
		return view.LoginHosts{}, err
	}
	page := view.LoginHosts{Shell: s.callerShell(r.Context(), caller, "Login hosts", "hosts"), Port: strconv.Itoa(pve.DefaultPort)}
	for _, h := range list.Items {
		page.Hosts = append(page.Hosts, hostView(h))
	}
	return page, nil
}

func hostView(h auth.HostView) view.LoginHost {
	return view.LoginHost{
		ID: h.ID, Address: h.Address(), Fingerprint: h.Fingerprint, Pinned: h.Pinned, Yours: h.Yours,
		Added: h.Created.Format("2 January 2006"),
	}
}

// hosts lists the login hosts.
func (s *Site) hosts(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	page, err := s.hostsPage(r, caller)
	if err != nil {
		return err
	}
	page.Done = doneTexts[r.URL.Query().Get("done")]
	s.render(w, r, http.StatusOK, view.LoginHostsPage(page))
	return nil
}

// hostAdd adds a login host by the proof of its certificate.
func (s *Site) hostAdd(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	in, err := DecodeForm[auth.AddHostInput](r)
	if err == nil {
		_, err = s.o.Auth.AddHost(r.Context(), caller, in)
	}
	if err == nil {
		s.redirect(w, r, "/settings/hosts?done=added")
		return nil
	}
	f := fault.As(err)
	if f == nil || f.Kind != fault.Invalid && f.Kind != fault.Conflict && f.Kind != fault.Throttled {
		return err
	}
	page, listErr := s.hostsPage(r, caller)
	if listErr != nil {
		return listErr
	}
	f, id := explain(r.Context(), r, err)
	sayRetryAfter(w, f)
	page.Host, page.Port, page.Errors = in.Host, in.Port.String(), f.Fields
	if f.Kind != fault.Invalid {
		page.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id}
	}
	s.render(w, r, status(f.Kind), view.LoginHostsPage(page))
	return nil
}

// hostRepinShow shows what a login host presents beside what is pinned.
func (s *Site) hostRepinShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	return s.repinPage(w, r, caller, http.StatusOK, nil)
}

func (s *Site) repinPage(w http.ResponseWriter, r *http.Request, caller session.Caller, code int, failure *view.Failure) error {
	shown, err := s.o.Auth.PresentedCertificate(r.Context(), caller, auth.HostID{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	s.render(w, r, code, view.RepinHostPage(view.LoginHostChange{
		Shell: s.callerShell(r.Context(), caller, "Certificate of "+shown.Host.Address(), "hosts"), Host: hostView(shown.Host),
		Presented: shown.Fingerprint, Changed: shown.Changed, Failure: failure,
	}))
	return nil
}

// hostRepin pins a login host anew.
func (s *Site) hostRepin(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	in, err := DecodeForm[auth.RepinHostInput](r)
	if err == nil {
		in.ID = r.PathValue("id")
		_, err = s.o.Auth.RepinHost(r.Context(), caller, in)
	}
	if err == nil {
		s.redirect(w, r, "/settings/hosts?done=repinned")
		return nil
	}
	if f := fault.As(err); f == nil || f.Kind != fault.Conflict {
		return err
	}
	f, id := explain(r.Context(), r, err)
	return s.repinPage(w, r, caller, status(f.Kind), &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id})
}

// hostRemoveShow asks before a login host is removed.
func (s *Site) hostRemoveShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	return s.removePage(w, r, caller, http.StatusOK, nil)
}

func (s *Site) removePage(w http.ResponseWriter, r *http.Request, caller session.Caller, code int, failure *view.Failure) error {
	list, err := s.o.Auth.ListHosts(r.Context(), caller, auth.None{})
	if err != nil {
		return err
	}
	for _, h := range list.Items {
		if h.ID == r.PathValue("id") {
			s.render(w, r, code, view.RemoveHostPage(view.LoginHostChange{
				Shell: s.callerShell(r.Context(), caller, "Remove "+h.Address(), "hosts"), Host: hostView(h), Failure: failure,
			}))
			return nil
		}
	}
	return fault.NoSuch("login host")
}

// hostRemove removes a login host.
func (s *Site) hostRemove(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	removed, err := s.o.Auth.RemoveHost(r.Context(), caller, auth.HostID{ID: r.PathValue("id")})
	if err != nil {
		if f := fault.As(err); f == nil || f.Kind != fault.Conflict {
			return err
		}
		f, id := explain(r.Context(), r, err)
		return s.removePage(w, r, caller, status(f.Kind), &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id})
	}
	if removed.ID == caller.Session.LoginHost {
		s.ClearCookie(w, r)
		s.redirect(w, r, "/login")
		return nil
	}
	s.redirect(w, r, "/settings/hosts?done=removed")
	return nil
}
