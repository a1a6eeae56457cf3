package node

import (
	"errors"
	"fmt"
	"time"

	"berth/internal/fault"
	"berth/internal/pve"
)

// Problem says in a sentence why a node can't be used, for an error of Call or Rights, and what can be done about it;
// both are empty for nil.
func Problem(err error) (what, wayOut string) {
	f := fault.As(err)
	var refused *pve.Error
	errors.As(err, &refused)
	switch {
	case err == nil:
		return "", ""
	case f != nil && f.Code == "token_refused":
		return "It does not accept the API token.", "The token may have expired or been removed on the host. Give the node another one."
	case f != nil && refused == nil:
		return f.Message, f.Hint
	case refused == nil:
		return "It does not answer.", "The rest works. It is tried again by itself."
	}
	switch refused.Kind {
	case pve.KindCertificate:
		return "Its certificate has changed, so nothing was sent to it.", "Compare the new one with what the host itself shows, and confirm it in the node's settings."
	case pve.KindNotProxmox:
		return "It answers, but not as a Proxmox VE host does.", "Check its address and port."
	case pve.KindForbidden:
		return "It refuses this to the account.", "Whoever runs the host can grant the privilege."
	case pve.KindRefusedAddress:
		return "Berth does not connect to this address.", "The operator decides which networks Proxmox hosts may be in."
	case pve.KindTooLarge:
		return "Its answer is too large.", ""
	case pve.KindServer, pve.KindUnauthenticated, pve.KindMemberUnreachable:
		return "It answered with an error.", "A member of the cluster may be ill, or its clock wrong."
	}
	return "It does not answer.", "The rest works. It is tried again by itself."
}

// clockTolerance is from where on a host's clock is worth a word.
const clockTolerance = 5 * time.Minute

// clockWords says how far a host's clock is off; it is empty when that is not worth a word.
func clockWords(at pve.Address, skew time.Duration) string {
	off := skew.Abs().Round(time.Minute)
	if off < clockTolerance {
		return ""
	}
	ahead := "ahead of"
	if skew < 0 {
		ahead = "behind"
	}
	amount := fmt.Sprintf("%d minutes", int64(off/time.Minute))
	switch {
	case off >= 48*time.Hour:
		amount = fmt.Sprintf("%d days", int64(off/(24*time.Hour)))
	case off >= 2*time.Hour:
		amount = fmt.Sprintf("%d hours", int64(off/time.Hour))
	}
	return fmt.Sprintf("The clock of %s is %s %s Berth's.", at, amount, ahead)
}

// refused is the answer to a node that can't be saved or tested because of what its host did; p is what was tried.
func refused(p plan, err error) error {
	if f := fault.As(err); f != nil {
		return err
	}
	var e *pve.Error
	if !errors.As(err, &e) {
		return err
	}
	at := p.address.String()
	var certificate *pve.CertificateError
	var address *pve.AddressError
	switch {
	case errors.As(err, &certificate):
		return certificateQuestion(p, certificate, err)
	case errors.As(err, &address):
		return fault.InvalidInput(map[string]string{"host": "Berth does not connect to this address"})
	case e.Kind == pve.KindNotProxmox, e.Kind == pve.KindUnsupported, e.Kind == pve.KindNotFound:
		return &fault.Error{Kind: fault.Unreachable, Code: "not_proxmox", Message: at + " answers, but not as a Proxmox VE host does.",
			Hint: "Proxmox VE listens on port 8006 unless a proxy stands before it.", Cause: err}
	case e.Kind == pve.KindTooLarge:
		return &fault.Error{Kind: fault.Unreachable, Code: "not_proxmox", Message: "The answer of " + at + " is too large.", Cause: err}
	case e.Kind == pve.KindUnauthenticated:
		return notAccepted(p, e, err)
	case e.Kind == pve.KindForbidden:
		return &fault.Error{Kind: fault.Forbidden, Code: "forbidden_by_proxmox", Message: "Proxmox VE does not allow this: " + e.Reason, Cause: err}
	case e.Kind == pve.KindHostUnreachable, e.Kind == pve.KindBusy, e.Kind == pve.KindMemberUnreachable:
		return &fault.Error{Kind: fault.Unreachable, Code: "host_unreachable", Message: at + " does not answer.",
			Hint: "Check its address and port, and that Berth's machine can reach it.", Cause: err}
	case e.Kind == pve.KindCanceled:
		return err
	}
	return &fault.Error{Kind: fault.Unreachable, Code: "host_refused", Message: at + " answered with an error.", Hint: e.Message, Cause: err}
}

// notAccepted tells a wrong credential from a wrong clock.
func notAccepted(p plan, e *pve.Error, err error) error {
	at := p.address.String()
	if words := clockWords(p.address, e.ClockSkew); words != "" {
		return &fault.Error{Kind: fault.Conflict, Code: "clock_wrong", Message: at + " does not accept the credential.",
			Hint: words + " That may be why.", Cause: err}
	}
	if p.credential == ByToken {
		return &fault.Error{Kind: fault.Conflict, Code: "token_not_accepted", Message: at + " does not accept the token.",
			Hint: "Its ID or secret is wrong, or it has expired or been removed there.", Cause: err}
	}
	return &fault.Error{Kind: fault.Conflict, Code: "credential_not_accepted", Message: at + " does not accept the sign-in.",
		Hint: "User name, password or realm is wrong, or the account is disabled there.", Cause: err}
}

// certificateQuestion asks to confirm a certificate that nobody vouches for. That of a login host is not its users' to
// confirm.
func certificateQuestion(p plan, certificate *pve.CertificateError, cause error) error {
	f := &fault.Error{
		Kind: fault.Conflict, Code: "certificate_unknown",
		Message: "The certificate of " + p.address.String() + " is unknown. Compare its fingerprint with the one that the host itself shows, and confirm it.",
		Details: map[string]any{"fingerprint": certificate.Peer.Fingerprint.String(), "host": p.address.Host, "port": p.address.Port},
		Cause:   cause,
	}
	switch {
	case p.loginHost != "":
		return &fault.Error{Kind: fault.Unreachable, Code: "certificate_changed", Message: "The certificate of " + p.address.String() + " has changed. Nothing was sent to it.",
			Hint: "Whoever runs this Berth can accept the new one under Settings > Login hosts.", Cause: cause}
	case p.trust.Key != nil:
		f.Message = "The certificate of " + p.address.String() + " has changed. Compare the new one with what the host itself shows, and confirm it."
	case certificate.Changed():
		f.Message = "The host at " + p.address.String() + " shows another certificate than the one that was confirmed. Compare again."
	}
	return f
}

// cannotList is the answer to a credential that would show nothing.
func cannotList(p plan, f found) error {
	if p.credential == ByToken && holdsNothing(f.held) {
		return &fault.Error{
			Kind: fault.Conflict, Code: "token_without_rights", Details: map[string]any{"rights": f.rights},
			Message: "The token " + p.tokenID + " is accepted, and may do nothing: it has privilege separation and no permission of its own, or its user has none.",
			Hint:    "Make it without privilege separation, or grant it a role on the host: pveum acl modify /vms --tokens " + shellWord(p.tokenID) + " --roles PVEVMUser",
		}
	}
	return &fault.Error{
		Kind: fault.Conflict, Code: "rights_missing", Details: map[string]any{"rights": f.rights},
		Message: "The credential may not see a single container: that needs VM.Audit on /vms, or on /vms/ with a VMID.",
		Hint:    "Whoever runs the host can grant it, as with the role PVEVMUser or PVEAuditor.",
	}
}
