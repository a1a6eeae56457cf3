package sim

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Limits of second factors (proxmox-tfa, api/mod.rs; pve-access-control hands them in).
const (
	totpFailureLimit = 8   // then TOTP is locked until a recovery code is used
	tfaFailureLimit  = 100 // then every second factor is locked for a while
	tfaLockTime      = time.Hour
)

// factors are the second factors of one user, and how often they were got wrong.
type factors struct {
	totp     []byte // key; nil for none
	lastStep int64  // the newest step whose code was accepted
	recovery []string
	used     []bool // for each recovery code
	key      bool   // a WebAuthn key

	totpFailures int
	totpLocked   bool
	failures     int
	lockedUntil  time.Time
}

var recoveryCode = regexp.MustCompile(`^[0-9a-f]{4}(-[0-9a-f]{4}){3}$`)

func newFactors(totpSecret string, recoveryCodes []string, key bool) (factors, error) {
	f := factors{key: key}
	if totpSecret != "" {
		key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(totpSecret, "="))
		if err != nil || len(key) == 0 {
			return f, errors.New("the TOTP secret is not base32")
		}
		f.totp = key
	}
	for _, c := range recoveryCodes {
		if !recoveryCode.MatchString(c) {
			return f, errors.New("a recovery code is not of the form xxxx-xxxx-xxxx-xxxx")
		}
	}
	f.recovery = recoveryCodes
	f.used = make([]bool, len(recoveryCodes))
	return f, nil
}

// challenge is what a user is asked for (proxmox-tfa, TfaChallenge). Recovery lists the codes that are left, by number;
// it is empty but present when all are used, and absent when there never were any.
type challenge struct {
	TOTP     bool   `json:"totp,omitempty"`
	Recovery *[]int `json:"recovery,omitempty"`
	// WebAuthn is what a browser needs to have a key sign; only its being there matters here.
	WebAuthn json.RawMessage `json:"webauthn,omitempty"`
}

// keyRequest is a request of the kind that a browser passes to a key, which signs it for the web address of rpId alone.
const keyRequest = `{"publicKey":{"challenge":"c2ltdWxhdGVk","timeout":60000,"rpId":"pve.lan","allowCredentials":[{"type":"public-key","id":"a2V5"}],"userVerification":"preferred"}}`

// challenge returns nil if the user has no second factor.
func (f *factors) challenge() *challenge {
	if f.totp == nil && len(f.recovery) == 0 && !f.key {
		return nil
	}
	c := &challenge{TOTP: f.totp != nil}
	if f.key {
		c.WebAuthn = json.RawMessage(keyRequest)
	}
	if len(f.recovery) > 0 {
		left := []int{}
		for i, used := range f.used {
			if !used {
				left = append(left, i)
			}
		}
		c.Recovery = &left
	}
	return c
}

// encode is the challenge as it stands in a ticket, where the colons of its JSON are escaped (Ticket.pm,
// assemble_rsa_ticket).
func (c *challenge) encode() string {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // plain fields, and JSON that stands above
	}
	return "!tfa!" + strings.ReplaceAll(string(text), ":", "%3A")
}

var errSecondFactor = errors.New("failed 2nd factor")

// verify checks a response such as "totp:123456" or "recovery:...." against a challenge that was asked earlier.
func (f *factors) verify(asked *challenge, response string, now time.Time) error {
	kind, value, ok := strings.Cut(response, ":")
	if !ok || asked == nil {
		return errSecondFactor
	}
	if now.Before(f.lockedUntil) {
		return errSecondFactor
	}
	accepted := false
	switch kind {
	case "totp":
		accepted = asked.TOTP && f.verifyTOTP(value, now)
	case "recovery":
		accepted = asked.Recovery != nil && f.verifyRecovery(value)
	}
	if accepted {
		f.failures = 0
		return nil
	}
	if f.failures++; f.failures >= tfaFailureLimit {
		f.failures = 0
		f.lockedUntil = now.Add(tfaLockTime)
	}
	return errSecondFactor
}

// verifyTOTP accepts the codes of the last, this and the next step, each once and never one older than the newest used
// (proxmox-tfa, verify_totp).
func (f *factors) verifyTOTP(code string, now time.Time) bool {
	if f.totp == nil || f.totpLocked {
		return false
	}
	step := now.Unix() / 30
	for s := step - 1; s <= step+1; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(f.totp, s)), []byte(code)) == 1 {
			if s <= f.lastStep {
				break
			}
			f.lastStep, f.totpFailures = s, 0
			return true
		}
	}
	if f.totpFailures++; f.totpFailures >= totpFailureLimit {
		f.totpLocked = true
	}
	return false
}

// verifyRecovery accepts each code once; success also unlocks TOTP (proxmox-tfa, verify_recovery).
func (f *factors) verifyRecovery(code string) bool {
	for i, c := range f.recovery {
		if !f.used[i] && subtle.ConstantTimeCompare([]byte(c), []byte(code)) == 1 {
			f.used[i] = true
			f.totpFailures, f.totpLocked, f.lockedUntil = 0, false, time.Time{}
			return true
		}
	}
	return false
}

// totpCode is RFC 6238 with SHA-1 and six digits, what authenticator programs use by default.
func totpCode(key []byte, step int64) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step))
	mac := hmac.New(sha1.New, key)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0x0f
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:at+4])&0x7fffffff%1_000_000)
}

// TOTP is the code that an authenticator program with the given base32 secret shows at a time, for those who print or
// type one; "" if the secret is invalid.
func TOTP(secret string, at time.Time) string {
	f, err := newFactors(secret, nil, false)
	if err != nil || f.totp == nil {
		return ""
	}
	return totpCode(f.totp, at.Unix()/30)
}
