package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/web/view"
)

// nodeRoutes are the pages with which people manage their nodes.
func (s *Site) nodeRoutes() []Route {
	return []Route{
		AuthenticatedRoute("GET", "/settings/nodes", Page, s.nodes),
		AuthenticatedRoute("GET", "/settings/nodes/add", Page, s.nodeAddShow),
		AuthenticatedRoute("POST", "/settings/nodes/add", Page, s.nodeAdd),
		AuthenticatedRoute("GET", "/settings/nodes/{id}", Page, s.nodeShow),
		AuthenticatedRoute("POST", "/settings/nodes/{id}", Page, s.nodeChange),
		AuthenticatedRoute("POST", "/settings/nodes/{id}/test", Page, s.nodeTest),
		AuthenticatedRoute("POST", "/settings/nodes/{id}/default", Page, s.nodeDefault),
		AuthenticatedRoute("POST", "/settings/nodes/{id}/same", Page, s.nodeSame),
		AuthenticatedRoute("GET", "/settings/nodes/{id}/remove", Page, s.nodeRemoveShow),
		AuthenticatedRoute("POST", "/settings/nodes/{id}/remove", Page, s.nodeRemove),
		AuthenticatedRoute("GET", "/settings/left-over/{id}", Page, s.leftOverShow),
		AuthenticatedRoute("POST", "/settings/left-over/{id}/remove", Page, s.leftOverRemove),
		AuthenticatedRoute("POST", "/settings/left-over/{id}/forget", Page, s.leftOverForget),
	}
}

// nodeDoneTexts are what the page says after a change; the address only names one of them.
var nodeDoneTexts = map[string]string{
	"saved":     "The node was saved.",
	"twice":     "The node was saved. Another node of yours goes to the same host by your sign-in, so it shows nothing more.",
	"default":   "The default node has changed.",
	"said":      "Noted.",
	"removed":   "The node was removed.",
	"left-over": "The node was removed. The token that Berth had made for it is still on its host; see below.",
	"token":     "The token was removed.",
}

// nodeViews are the caller's nodes for a page, with what the hosts let the caller do just now.
func (s *Site) nodeViews(ctx context.Context, caller session.Caller) (node.NodeList, []view.Node, error) {
	list, err := s.o.Nodes.Nodes(ctx, caller, auth.None{})
	if err != nil {
		return list, nil, err
	}
	statuses, err := s.o.Nodes.Statuses(ctx, caller)
	if err != nil {
		return list, nil, err
	}
	names := map[string]string{}
	for _, n := range list.Items {
		names[n.ID] = n.Name
	}
	views := make([]view.Node, 0, len(list.Items))
	for _, n := range list.Items {
		v := view.Node{
			ID: n.ID, Name: n.Name, Address: n.Address(), Credential: string(n.Credential), TokenID: n.TokenID, Expires: n.TokenExpires,
			Fingerprint: n.Fingerprint, Pinned: n.Pinned, IsDefault: n.IsDefault, Rights: rightViews(statuses[n.ID].Rights),
		}
		v.Problem, v.WayOut = node.Problem(statuses[n.ID].Err)
		var shown *pve.CertificateError
		if errors.As(statuses[n.ID].Err, &shown) {
			if n.Credential == node.BySession {
				v.WayOut = "Whoever runs this Berth can accept the new one under Settings > Login hosts."
			} else {
				v.Shown = shown.Peer.Fingerprint.String()
			}
		}
		for _, id := range n.SameAs {
			v.SameAs = append(v.SameAs, names[id])
		}
		for _, id := range n.PerhapsSameAs {
			v.Perhaps = append(v.Perhaps, view.NodeRef{ID: id, Name: names[id]})
		}
		views = append(views, v)
	}
	return list, views, nil
}

func rightViews(rights []node.Right) []view.NodeRight {
	var views []view.NodeRight
	for _, r := range rights {
		views = append(views, view.NodeRight{Part: r.Part, Privilege: r.Privilege, Held: r.Held, Paths: r.Paths, More: r.More})
	}
	return views
}

func leftOverView(l node.LeftOver) view.LeftOverToken {
	return view.LeftOverToken{
		ID: l.ID, NodeName: l.NodeName, Address: l.Address(), TokenID: l.TokenID, Command: l.Command, Expires: l.Expires,
		Certain: l.Certain, BySignIn: l.BySignIn,
	}
}

// nodes lists the caller's nodes.
func (s *Site) nodes(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	list, views, err := s.nodeViews(r.Context(), caller)
	if err != nil {
		return err
	}
	page := view.Nodes{
		Shell: s.callerShell(r.Context(), caller, "Nodes", "nodes"), Rows: askOnce(views), Most: list.Most, Now: s.o.Now(),
		Done: nodeDoneTexts[r.URL.Query().Get("done")],
	}
	for _, l := range list.LeftOver {
		page.LeftOver = append(page.LeftOver, leftOverView(l))
	}
	s.render(w, r, http.StatusOK, view.NodesPage(page))
	return nil
}

// askOnce leaves of each question about two nodes the first.
func askOnce(nodes []view.Node) []view.Node {
	asked := map[[2]string]bool{}
	for i, n := range nodes {
		nodes[i].Perhaps = nil
		for _, other := range n.Perhaps {
			if !asked[[2]string{other.ID, n.ID}] {
				asked[[2]string{n.ID, other.ID}] = true
				nodes[i].Perhaps = append(nodes[i].Perhaps, other)
			}
		}
	}
	return nodes
}

// nodeForm is an empty form.
func (s *Site) nodeForm(ctx context.Context, caller session.Caller, title string, list node.NodeList) view.NodeForm {
	form := view.NodeForm{Shell: s.callerShell(ctx, caller, title, "nodes"), Port: strconv.Itoa(pve.DefaultPort)}
	for _, h := range list.LoginHosts {
		form.LoginHosts = append(form.LoginHosts, view.LoginHostChoice{ID: h.ID, Address: h.Address()})
	}
	return form
}

// kindIn is the kind of node that a request names, or "".
func kindIn(kind string) string {
	for _, k := range view.NodeKinds {
		if k.Value == kind {
			return kind
		}
	}
	return ""
}

// nodeAddShow shows the form for a new node.
func (s *Site) nodeAddShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	list, err := s.o.Nodes.Nodes(r.Context(), caller, auth.None{})
	if err != nil {
		return err
	}
	form := s.nodeForm(r.Context(), caller, "Add a node", list)
	if form.Kind = kindIn(r.URL.Query().Get("kind")); form.Kind == "" {
		form.Kind = "signin"
		if len(list.Items) == 0 {
			form.Kind = "session"
		}
	}
	s.render(w, r, http.StatusOK, view.NodeFormPage(form))
	return nil
}

// nodeAdd adds a node.
func (s *Site) nodeAdd(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	in, err := DecodeForm[node.AddInput](r)
	var saved node.Saved
	if err == nil {
		saved, err = s.o.Nodes.Add(r.Context(), caller, in)
	}
	return s.nodeSaved(w, r, caller, nil, in.Settings, saved, err)
}

// nodeChange changes a node.
func (s *Site) nodeChange(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	id := node.ID{ID: r.PathValue("id")}
	if _, err := s.o.Nodes.ShowNode(r.Context(), caller, id); err != nil {
		return err
	}
	in, err := DecodeForm[node.ChangeInput](r)
	var saved node.Saved
	if err == nil {
		in.ID = id.ID
		// The form says that it tests, whatever was changed in it.
		if !s.o.Nodes.Tests(r.Context(), caller, in) {
			_, err = s.o.Nodes.Test(r.Context(), caller, node.TestInput{ID: id.ID})
		}
	}
	if err == nil {
		saved, err = s.o.Nodes.Change(r.Context(), caller, in)
	}
	return s.nodeSaved(w, r, caller, &id, in.Settings, saved, err)
}

// nodeSaved answers an addition or a change: it leads on, asks for the second factor, or shows the form again with all that
// was typed but secrets.
func (s *Site) nodeSaved(w http.ResponseWriter, r *http.Request, caller session.Caller, id *node.ID, in node.Settings, saved node.Saved, err error) error {
	action := "/settings/nodes/add"
	if id != nil {
		action = "/settings/nodes/" + id.ID
	}
	switch {
	case err == nil && saved.TFA != nil:
		s.render(w, r, http.StatusOK, view.NodeSecondFactorPage(s.nodeQuestion(r, caller, action, saved.TFA)))
		return nil
	case err == nil:
		done := "saved"
		if s.twice(r.Context(), caller, saved.View) {
			done = "twice"
		}
		s.redirect(w, r, "/settings/nodes?done="+done)
		return nil
	case in.Challenge != "":
		return s.nodeCodeRefused(w, r, caller, action, in.SecondStep, err)
	}
	f := fault.As(err)
	if f == nil || f.Kind == fault.Unavailable || f.Kind == fault.NotFound || f.Kind == fault.Malformed || f.Kind == fault.TooLarge || f.Kind == fault.Unauthenticated {
		return err
	}
	list, views, listErr := s.nodeViews(r.Context(), caller)
	if listErr != nil {
		return listErr
	}
	form := s.nodeForm(r.Context(), caller, "Add a node", list)
	if id != nil {
		for i := range views {
			if views[i].ID == id.ID {
				form.Node, form.Title = &views[i], views[i].Name
			}
		}
	}
	form.Kind = kindIn(r.PostForm.Get("kind"))
	form.Name, form.Host, form.Port, form.Username, form.Realm = in.Name, in.Host, in.Port.String(), in.Username, in.Realm
	form.TokenID, form.LoginHost = in.TokenID, in.LoginHost
	if f.Code == "certificate_unknown" {
		form.Host, form.Port = f.Details["host"].(string), strconv.Itoa(f.Details["port"].(int))
		form.Confirm = &view.Certificate{Address: addressIn(f), Fingerprint: f.Details["fingerprint"].(string)}
		s.render(w, r, status(f.Kind), view.NodeFormPage(form))
		return nil
	}
	f, errorID := explain(r.Context(), r, err)
	sayRetryAfter(w, f)
	form.Errors, form.Confirmed = f.Fields, in.Fingerprint
	if form.Node != nil && form.Node.Shown != "" && form.Node.Shown == in.Fingerprint {
		form.Confirm = &view.Certificate{Address: form.Node.Address, Fingerprint: in.Fingerprint}
	}
	if f.Kind != fault.Invalid {
		form.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: errorID}
	}
	s.render(w, r, status(f.Kind), view.NodeFormPage(form))
	return nil
}

// twice tells whether another node of the caller's goes to the same host by the sign-in too.
func (s *Site) twice(ctx context.Context, caller session.Caller, saved node.View) bool {
	nodes, err := s.o.Nodes.List(ctx, caller)
	return err == nil && saved.Credential == node.BySession && slices.ContainsFunc(nodes, func(n node.Node) bool {
		return n.ID != saved.ID && n.Credential == node.BySession && n.LoginHost == saved.LoginHost
	})
}

func (s *Site) nodeQuestion(r *http.Request, caller session.Caller, action string, q *auth.SecondFactor) view.NodeSecondFactor {
	page := view.NodeSecondFactor{
		Shell: s.callerShell(r.Context(), caller, "Second factor", "nodes"), Action: action, UserID: q.UserID, Address: q.Host,
		Challenge: q.Challenge, BrowserKey: q.BrowserKey,
	}
	for _, kind := range q.Kinds {
		page.Kinds = append(page.Kinds, view.Factor{Kind: kind, Label: factorLabels[pve.Factor(kind)]})
	}
	if len(q.Kinds) > 0 {
		page.Kind = q.Kinds[0]
	}
	return page
}

// nodeCodeRefused asks for the second factor again, as long as the sign-in waits for it.
func (s *Site) nodeCodeRefused(w http.ResponseWriter, r *http.Request, caller session.Caller, action string, in node.SecondStep, err error) error {
	f := fault.As(err)
	question, gone := s.o.Nodes.Question(r.Context(), caller, in.Challenge)
	if f == nil || gone != nil {
		return err
	}
	page := s.nodeQuestion(r, caller, action, question)
	if _, offered := factorLabels[pve.Factor(in.Kind)]; offered {
		page.Kind = in.Kind
	}
	f, errorID := explain(r.Context(), r, err)
	sayRetryAfter(w, f)
	page.Errors = f.Fields
	if f.Kind != fault.Invalid {
		page.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: errorID}
	}
	s.render(w, r, status(f.Kind), view.NodeSecondFactorPage(page))
	return nil
}

// nodePage is the page of one node, with its form filled in.
func (s *Site) nodePage(r *http.Request, caller session.Caller) (view.NodeForm, error) {
	list, views, err := s.nodeViews(r.Context(), caller)
	if err != nil {
		return view.NodeForm{}, err
	}
	for i, n := range list.Items {
		if n.ID != r.PathValue("id") {
			continue
		}
		form := s.nodeForm(r.Context(), caller, n.Name, list)
		form.Node, form.Kind = &views[i], view.KindOf(views[i], n.LoginHost != "")
		form.Name, form.LoginHost, form.TokenID = n.Name, n.LoginHost, n.TokenID
		if n.Credential != node.ByToken {
			form.TokenID = ""
		}
		if form.Kind == "signin" || form.Kind == "token" {
			form.Host, form.Port = n.Host, strconv.Itoa(n.Port)
		}
		if form.Kind == "signin" {
			form.Username = view.LeftOverToken{TokenID: n.TokenID}.User()
		}
		if kind := kindIn(r.URL.Query().Get("kind")); kind != "" {
			form.Kind = kind
		} else if form.Node.Shown != "" {
			form.Confirm = &view.Certificate{Address: form.Node.Address, Fingerprint: form.Node.Shown}
		}
		return form, nil
	}
	return view.NodeForm{}, fault.NoSuch("node")
}

// nodeShow shows a node.
func (s *Site) nodeShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	form, err := s.nodePage(r, caller)
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, view.NodeFormPage(form))
	return nil
}

// nodeTest tests a node as it is stored, and shows it with the result.
func (s *Site) nodeTest(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	id := r.PathValue("id")
	if _, err := s.o.Nodes.ShowNode(r.Context(), caller, node.ID{ID: id}); err != nil {
		return err
	}
	tested, err := s.o.Nodes.Test(r.Context(), caller, node.TestInput{ID: id})
	f := fault.As(err)
	if err != nil && (f == nil || f.Kind == fault.Unauthenticated || f.Kind == fault.Unavailable) {
		return err
	}
	form, pageErr := s.nodePage(r, caller)
	if pageErr != nil {
		return pageErr
	}
	if err == nil {
		form.Tested = &view.TestedNode{Version: tested.Version, Warning: tested.Warning}
		s.render(w, r, http.StatusOK, view.NodeFormPage(form))
		return nil
	}
	f, errorID := explain(r.Context(), r, err)
	sayRetryAfter(w, f)
	if f.Code == "certificate_unknown" && form.Node.Credential != string(node.BySession) {
		form.Confirm = &view.Certificate{Address: addressIn(f), Fingerprint: f.Details["fingerprint"].(string)}
	}
	form.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: errorID}
	s.render(w, r, status(f.Kind), view.NodeFormPage(form))
	return nil
}

// nodeDefault makes a node the default.
func (s *Site) nodeDefault(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	if _, err := s.o.Nodes.MakeDefault(r.Context(), caller, node.ID{ID: r.PathValue("id")}); err != nil {
		return err
	}
	s.redirect(w, r, "/settings/nodes?done=default")
	return nil
}

// nodeSame notes whether two nodes lead to the same installation.
func (s *Site) nodeSame(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	in := node.ChangeInput{ID: r.PathValue("id")}
	if err := r.ParseForm(); err != nil {
		return unreadable(err)
	}
	in.SameAs = r.PostForm.Get("sameAs")
	if _, err := s.o.Nodes.Change(r.Context(), caller, in); err != nil {
		return err
	}
	s.redirect(w, r, "/settings/nodes?done=said")
	return nil
}

// nodeRemoveShow asks before a node is removed.
func (s *Site) nodeRemoveShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	n, err := s.o.Nodes.ShowNode(r.Context(), caller, node.ID{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	names, err := s.nodeNames(r.Context(), caller)
	if err != nil {
		return err
	}
	page := view.RemoveNode{
		Shell: s.callerShell(r.Context(), caller, "Remove "+n.Name, "nodes"),
		Node:  view.Node{ID: n.ID, Name: n.Name, Address: n.Address(), Credential: string(n.Credential), TokenID: n.TokenID, IsDefault: n.IsDefault},
	}
	for _, id := range n.SameAs {
		page.Node.SameAs = append(page.Node.SameAs, names[id])
	}
	s.render(w, r, http.StatusOK, view.RemoveNodePage(page))
	return nil
}

// nodeRemove removes a node.
func (s *Site) nodeRemove(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	removed, err := s.o.Nodes.Remove(r.Context(), caller, node.ID{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	done := "removed"
	if removed.LeftOver != nil {
		done = "left-over"
	}
	s.redirect(w, r, "/settings/nodes?done="+done)
	return nil
}

func (s *Site) leftOverPage(r *http.Request, caller session.Caller) (view.LeftOverPage, error) {
	list, err := s.o.Nodes.Nodes(r.Context(), caller, auth.None{})
	if err != nil {
		return view.LeftOverPage{}, err
	}
	for _, l := range list.LeftOver {
		if l.ID == r.PathValue("id") {
			return view.LeftOverPage{Shell: s.callerShell(r.Context(), caller, "Remove a token", "nodes"), Token: leftOverView(l)}, nil
		}
	}
	return view.LeftOverPage{}, fault.NoSuch("token")
}

// leftOverShow says how a token that is left over can go.
func (s *Site) leftOverShow(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	page, err := s.leftOverPage(r, caller)
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, view.LeftOverTokenPage(page))
	return nil
}

// leftOverRemove removes a left over token on its host.
func (s *Site) leftOverRemove(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	page, err := s.leftOverPage(r, caller)
	if err != nil {
		return err
	}
	in, err := DecodeForm[node.RemoveTokenInput](r)
	var removed node.Saved
	if err == nil {
		in.ID = r.PathValue("id")
		removed, err = s.o.Nodes.RemoveToken(r.Context(), caller, in)
	}
	action := "/settings/left-over/" + r.PathValue("id") + "/remove"
	switch {
	case err == nil && removed.TFA != nil:
		s.render(w, r, http.StatusOK, view.NodeSecondFactorPage(s.nodeQuestion(r, caller, action, removed.TFA)))
		return nil
	case err == nil:
		s.redirect(w, r, "/settings/nodes?done=token")
		return nil
	case in.Challenge != "":
		return s.nodeCodeRefused(w, r, caller, action, in.SecondStep, err)
	}
	f := fault.As(err)
	if f == nil || f.Kind == fault.Unavailable || f.Kind == fault.Unauthenticated {
		return err
	}
	f, errorID := explain(r.Context(), r, err)
	sayRetryAfter(w, f)
	page.Errors = f.Fields
	if f.Code == "certificate_unknown" {
		page.Confirm = &view.Certificate{Address: addressIn(f), Fingerprint: f.Details["fingerprint"].(string)}
	}
	if f.Kind != fault.Invalid {
		page.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: errorID}
	}
	s.render(w, r, status(f.Kind), view.LeftOverTokenPage(page))
	return nil
}

// leftOverForget takes a left over token off the list.
func (s *Site) leftOverForget(w http.ResponseWriter, r *http.Request, caller session.Caller) error {
	if _, err := s.o.Nodes.ForgetToken(r.Context(), caller, node.ID{ID: r.PathValue("id")}); err != nil {
		return err
	}
	s.redirect(w, r, "/settings/nodes?done=token")
	return nil
}
