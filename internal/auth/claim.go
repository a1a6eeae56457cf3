package auth

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"berth/internal/seal"
)

var claimCodePlace = seal.Place{Table: "installation", Column: "claim_code", Row: "1"}

// ClaimCode is the code that the first sign-in must know, for the operator's eyes: made once, and the same on every
// replica. It is empty when there is none: the installation is claimed, or its policy knows no claim. AsksClaimCode tells
// whether a certain visitor needs it.
func (h *Hosts) ClaimCode(ctx context.Context) (string, error) {
	if h.policy.Mode != Claimed {
		return "", nil
	}
	claim, err := h.store.Claim(ctx)
	if err != nil || claim.Datacenter != "" {
		return "", err
	}
	if claim.Code == nil {
		var stored []byte
		err := h.sealer.Keep([]byte(newClaimCode()), claimCodePlace, func(sealed []byte) error {
			before := stored
			if stored = sealed; before != nil {
				return h.store.Reseal(ctx, claimCodePlace, before, sealed)
			}
			return h.store.SetClaimCode(ctx, sealed)
		})
		if err != nil {
			return "", err
		}
		// Another replica's code may have come first.
		if claim, err = h.store.Claim(ctx); err != nil || claim.Datacenter != "" {
			return "", err
		}
	}
	return h.openClaimCode(claim)
}

type proxyKey struct{}

// WithProxy notes that a request carries headers that proxies add. Then it may be anybody's, whatever address it comes from.
func WithProxy(ctx context.Context) context.Context { return context.WithValue(ctx, proxyKey{}, true) }

// AsksClaimCode tells whether the first sign-in, made by this request, needs the claim code. Outside of a request it
// answers for one of the same machine that came through no proxy.
func (h *Hosts) AsksClaimCode(ctx context.Context) (bool, error) {
	if h.policy.Mode != Claimed || !h.asksClaimCode(ctx) {
		return false, nil
	}
	claim, err := h.store.Claim(ctx)
	return err == nil && claim.Datacenter == "", err
}

func (h *Hosts) asksClaimCode(ctx context.Context) bool {
	return h.policy.AskClaimCode || ctx.Value(proxyKey{}) != nil
}

func (h *Hosts) openClaimCode(claim Claim) (string, error) {
	if claim.Code == nil {
		return "", fmt.Errorf("the installation has no claim code yet")
	}
	code, err := h.sealer.Open(claim.Code, claimCodePlace)
	return string(code), err
}

// newClaimCode makes a code of 80 bits in groups that can be typed.
func newClaimCode() string {
	text := strings.ToLower(rand.Text()[:16])
	return text[0:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:16]
}

// ClaimFor gives the installation to a datacenter, unless somebody has it. Only the operator may ask for it.
func (h *Hosts) ClaimFor(ctx context.Context, datacenter string) error {
	return h.store.ClaimInstallation(ctx, datacenter)
}
