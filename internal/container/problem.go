package container

import (
	"errors"

	"berth/internal/fault"
	"berth/internal/node"
	"berth/internal/pve"
)

// trouble is why a node's containers are not current: in words, for programs, and what to do about it.
type trouble struct{ text, code, wayOut string }

const triedAgain = "Berth tries it again by itself."

// troubleOf is what a person can know of a failed reading.
func troubleOf(err error) trouble {
	refused := fault.As(err)
	switch {
	case err == nil:
		return trouble{}
	case refused != nil && refused.Code == "token_refused":
		return trouble{"it does not accept this node's API token", refused.Code, "The token may have expired, or been removed there. Give the node another one in the settings."}
	case pve.IsKind(err, pve.KindCertificate):
		return trouble{"its certificate has changed, so nothing was sent to it", "certificate_changed",
			"If you know why, compare the fingerprint and confirm it where the host is set up in the settings. If you don't, somebody may be in between."}
	case pve.IsKind(err, pve.KindNotProxmox):
		return trouble{"it answers, but not as a Proxmox VE host does", "not_proxmox", "Check its address and port. " + triedAgain}
	case pve.IsKind(err, pve.KindForbidden):
		return trouble{"it refuses to list containers to this account", "forbidden_by_proxmox", "Ask its administrator for VM.Audit on the containers."}
	case pve.IsKind(err, pve.KindTooLarge):
		return trouble{"its answer is too large", "answer_too_large", "It names more than Berth keeps of one node. " + triedAgain}
	case pve.IsKind(err, pve.KindUnauthenticated):
		return trouble{"it answered with an error", "host_refused",
			"It refused the credential that this node has. A clock may be wrong there, or the credential may have to be given again in the settings."}
	case pve.IsKind(err, pve.KindServer):
		return trouble{"it answered with an error", "host_refused", "A member of the cluster may be ill. " + triedAgain}
	case errors.Is(err, node.ErrSignInNeeded):
		return trouble{"it goes by your sign-in, which an access token has not", "sign_in_needed", "Give the node an API token of its own in the settings, or sign in."}
	}
	return trouble{"it doesn't answer", "host_unreachable", "Check that it is up, and that Berth's machine can reach it. " + triedAgain}
}

// pending is the trouble of a node whose first answer is still awaited.
var pending = trouble{"it has not answered yet", "pending", "Look again in a moment."}
