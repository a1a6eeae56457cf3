package web

import (
	"context"
	"net/http"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/web/view"
)

var factorLabels = map[pve.Factor]string{
	pve.FactorTOTP:     "Authenticator code",
	pve.FactorRecovery: "Recovery code",
	pve.FactorYubico:   "Yubico OTP",
}

// secondFactorShow leads back to the first step: what continues a sign-in is never in an address.
func (s *Site) secondFactorShow(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, s.o.BasePath+"/login", http.StatusSeeOther)
	return nil
}

// secondFactor is the form of the second step.
func (s *Site) secondFactor(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	in, err := DecodeForm[auth.SecondFactorInput](r)
	next := safeNext(r.PostForm.Get("next"))
	var out auth.SignedIn
	if err == nil {
		out, err = s.o.Auth.AnswerChallenge(browserContext(r), in)
	}
	if err != nil {
		return s.secondFactorRefused(w, r, in, next, err)
	}
	s.rememberBrowser(w, r, out.Browser)
	s.SetCookie(w, r, out.Token)
	s.redirect(w, r, next)
	return nil
}

func (s *Site) secondFactorRefused(w http.ResponseWriter, r *http.Request, in auth.SecondFactorInput, next string, err error) error {
	f := fault.As(err)
	if f == nil || f.Kind == fault.Unavailable || f.Kind == fault.Malformed || f.Kind == fault.TooLarge {
		return err
	}
	question, gone := s.o.Auth.Question(r.Context(), in.Challenge)
	if gone != nil {
		if f.Code == "host_not_allowed" {
			gone = err
		}
		f, id := explain(r.Context(), r, gone)
		page := s.loginPage(r.Context(), next)
		s.fillLast(r, &page)
		s.offerRealms(r.Context(), &page)
		page.Failure = &view.Failure{Message: f.Message, ErrorID: id}
		s.render(w, r, status(f.Kind), view.LoginPage(page))
		return nil
	}
	f, id := explain(r.Context(), r, err)
	sayRetryAfter(w, f)
	page := s.secondFactorPage(r.Context(), question, next)
	page.Errors = f.Fields
	if _, offered := factorLabels[pve.Factor(in.Kind)]; offered {
		page.Kind = in.Kind
	}
	if f.Kind != fault.Invalid {
		page.Failure = &view.Failure{Message: f.Message, Hint: f.Hint, ErrorID: id}
	}
	s.render(w, r, status(f.Kind), view.SecondFactorPage(page))
	return nil
}

func (s *Site) secondFactorPage(ctx context.Context, q *auth.SecondFactor, next string) view.SecondFactor {
	page := view.SecondFactor{
		Shell: s.shell(ctx, "Second factor"), UserID: q.UserID, Address: q.Host, Challenge: q.Challenge, Next: next,
		BrowserKey: q.BrowserKey, RecoveryLeft: -1, TOTPLeft: q.TOTPLeft,
	}
	if q.RecoveryLeft != nil {
		page.RecoveryLeft = *q.RecoveryLeft
	}
	for _, kind := range q.Kinds {
		page.Kinds = append(page.Kinds, view.Factor{Kind: kind, Label: factorLabels[pve.Factor(kind)]})
	}
	if len(q.Kinds) > 0 {
		page.Kind = q.Kinds[0]
	}
	return page
}
