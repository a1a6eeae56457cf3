package auth

import (
	"context"
	"errors"
	"log/slog"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// SignInResult is how a step of a sign-in ended, for who counts them.
type SignInResult string

// The results.
const (
	StepDone      SignInResult = "ok"
	StepQuestion  SignInResult = "question" // a second factor, or a certificate to confirm
	StepRefused   SignInResult = "refused"
	StepThrottled SignInResult = "throttled"
	StepFailed    SignInResult = "failed" // for a fault of Berth's own, or its stores'
)

func (s *Service) tell(out SignedIn, err error) {
	if s.stepped == nil {
		return
	}
	result := StepDone
	switch {
	case err == nil && !out.Success:
		result = StepQuestion
	case err != nil:
		switch fault.KindOf(err) {
		case fault.Conflict:
			result = StepQuestion
		case fault.Throttled:
			result = StepThrottled
		case fault.Internal, fault.Unavailable:
			result = StepFailed
		default:
			result = StepRefused
		}
	}
	s.stepped(result)
}

// recordSignIn notes in the audit trail how a first step ended, and returns its error, with its id when it has a cause. A
// question (a certificate to confirm, a second factor) is not the end of a sign-in, and a store that can't be reached
// would not take the entry either.
func (s *Service) recordSignIn(ctx context.Context, c credentials, out SignedIn, err error) error {
	s.tell(out, err)
	if err == nil {
		if out.Success {
			s.recordSession(ctx, c.address, out.Session, "")
		}
		return nil
	}
	s.recordRefusal(ctx, audit.SignIn, c.address, c.userID, err)
	return err
}

// recordSecondFactor is recordSignIn for the second step.
func (s *Service) recordSecondFactor(ctx context.Context, a Attempt, kind string, out SignedIn, err error) error {
	s.tell(out, err)
	if err == nil {
		s.recordSession(ctx, a.Address, out.Session, "with a second factor: "+kind)
		return nil
	}
	s.recordRefusal(ctx, audit.SecondFactor, a.Address, a.UserID, err)
	return err
}

func (s *Service) recordSession(ctx context.Context, at pve.Address, started session.Session, detail string) {
	s.audit.Record(ctx, audit.Entry{Identity: started.Identity, Action: audit.SignIn, Target: at.String(), Detail: detail})
}

// recordRefusal notes a sign-in that was refused under the id that the visitor is shown. Where every host may vouch, one
// at a host that nobody signed in with leaves no trace but in the log: there is no datacenter, and no owner, that it
// concerns.
func (s *Service) recordRefusal(ctx context.Context, action audit.Action, at pve.Address, userID string, err error) {
	f := fault.As(err)
	if f == nil {
		return
	}
	switch f.Kind {
	case fault.Unauthenticated, fault.Forbidden, fault.Throttled:
	case fault.Invalid:
		if f.Code != "claim_code_required" {
			return
		}
	default:
		return
	}
	// A visitor who did not wait for the answer has tried all the same.
	ctx = context.WithoutCancel(ctx)
	known, unknown := s.known(ctx, at)
	if unknown != nil || known == nil && s.hosts.policy.Mode == Any {
		return
	}
	if f.ID == "" && f.Cause != nil {
		f.ID = fault.NewID()
	}
	e := audit.Entry{
		Identity: session.Identity{UserID: userID}, Action: action, Target: at.String(), Result: audit.Refused,
		ErrorID: f.ID, Detail: refusalText(action, f),
	}
	if known != nil {
		e.Identity.Datacenter = known.Datacenter
	}
	s.audit.Record(ctx, e)
}

// refusalText says why a sign-in was refused, in words of Berth's own alone: what a host sent is for the log.
func refusalText(action audit.Action, f *fault.Error) string {
	var cert *pve.CertificateError
	switch {
	case errors.Is(f.Cause, errManySignIns):
		return "too many sign-ins with the account from the same address"
	case errors.Is(f.Cause, errManyNewcomers):
		return "too many new accounts"
	case f.Kind == fault.Throttled:
		return "too many attempts; nothing was sent to the host"
	case errors.Is(f.Cause, errHostChanged):
		return "the login host was removed or pinned anew in the meantime"
	case f.Code == "host_not_allowed":
		return "not a login host; nothing was sent to it"
	case f.Code == "claim_code_required":
		return "without the claim code; nothing was sent to the host"
	case errors.As(f.Cause, &cert):
		return "the host shows another certificate; nothing was sent to it"
	case pve.IsKind(f.Cause, pve.KindBusy):
		return "too many sign-ins at the host at once"
	case pve.IsKind(f.Cause, pve.KindHostUnreachable), pve.IsKind(f.Cause, pve.KindMemberUnreachable):
		return "the host did not answer"
	case errors.Is(f.Cause, errAtProvider):
		return "the host did not accept what the identity provider sent"
	case errors.Is(f.Cause, errProviderLink):
		return "the host names an unsafe address of its identity provider"
	case pve.IsKind(f.Cause, pve.KindUnauthenticated) && action == audit.SecondFactor:
		return "the host did not accept the code"
	case pve.IsKind(f.Cause, pve.KindUnauthenticated):
		return "the host did not accept the user name and password"
	}
	return "the log has the cause"
}

// recordAdmission notes the first session of a claimed installation or a new login host.
func (s *Service) recordAdmission(ctx context.Context, a Attempt, host LoginHost, by session.Identity) {
	e := audit.Entry{
		Identity: by, Action: audit.HostAdd, Target: host.Address.String(),
		Detail: "by the first sign-in there, with the certificate " + a.Peer.Fingerprint.String(),
	}
	if a.Claims {
		e.Action = audit.InstallationClaim
	}
	s.audit.Record(ctx, e)
}

// noteCertificate keeps up with a certificate that was renewed with the pinned key, or that verifies, and notes it. It
// belongs to nobody's doing: whoever signs in first meets it.
func (s *Service) noteCertificate(ctx context.Context, host LoginHost, via *pve.Host) {
	switch renewed, changed, err := s.hosts.noteCertificate(ctx, host, via); {
	case err != nil:
		slog.WarnContext(ctx, "certificate not noted", "cause", err)
	case changed:
		how := " renewed with the same key: "
		if host.Key == nil { // then nobody knows which key it was
			how = " replaced by another, of whatever key, that the certificate authorities verify: "
		}
		s.audit.Record(ctx, audit.Entry{
			Action: audit.HostCertificate, Target: host.Address.String(),
			Detail: "certificate " + host.Fingerprint.String() + how + renewed.String(),
		})
	}
}

// SessionEnded notes a session that Berth ended by itself; see session.Options.Ended.
func SessionEnded(trail Recorder) func(context.Context, session.Session, session.Cause) {
	return func(ctx context.Context, s session.Session, why session.Cause) {
		action := audit.SessionEnd
		if why == session.TicketOver {
			action = audit.SessionLost
		}
		trail.Record(ctx, audit.Entry{Identity: s.Identity, Action: action, Target: s.Client.Device(), Detail: string(why)})
	}
}

// SessionLost notes a session that ended because Proxmox VE refused its ticket; see session.Options.Lost.
func SessionLost(trail Recorder) func(context.Context, session.Session) {
	return func(ctx context.Context, s session.Session) {
		trail.Record(ctx, audit.Entry{
			Identity: s.Identity, Action: audit.SessionLost, Target: s.Client.Device(), Detail: "Proxmox VE refused its ticket and a new one",
		})
	}
}
