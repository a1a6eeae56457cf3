package sim

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Tickets and CSRF tokens are valid while -ticketEarly < age < ticketLife (AccessControl.pm, get_ticket_age_range): two
// hours, and five minutes before they were issued, for members whose clocks differ.
const (
	ticketLife  = 7200 * time.Second
	ticketEarly = 300 * time.Second
)

// signingKey is one RSA key for the process: making one takes long enough to be felt with a hundred datacenters, and
// nobody but this package verifies what it signs. Datacenters stay apart because the text that is signed contains the
// datacenter's own random id (see ticketDigest), so the signature of one is nothing to another.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(fmt.Sprintf("sim: making the ticket key: %v", err))
	}
	return key
})

func (d *Datacenter) ticketDigest(text, extra string) []byte {
	h := sha256.New()
	h.Write(d.id)
	h.Write([]byte(text))
	if extra != "" {
		h.Write([]byte(":" + extra))
	}
	return h.Sum(nil)
}

// assemble makes a ticket (pve-common, Ticket.pm, assemble_rsa_ticket). The signature is deterministic, so that within
// one second the same ticket comes out. Extra is signed without being part of the ticket.
func (d *Datacenter) assemble(data, extra string, now time.Time) string {
	text := fmt.Sprintf("PVE:%s:%08X", data, now.Unix())
	signature, err := rsa.SignPKCS1v15(nil, signingKey(), crypto.SHA256, d.ticketDigest(text, extra))
	if err != nil {
		panic(fmt.Sprintf("sim: signing a ticket: %v", err)) // a key of our own and a digest of fixed length
	}
	return text + "::" + base64.StdEncoding.EncodeToString(signature)
}

// disassemble verifies a ticket's signature and age and returns its data.
func (d *Datacenter) disassemble(ticket, extra string, now time.Time) (data string, ok bool) {
	text, encoded, found := strings.Cut(ticket, "::")
	if !found {
		return "", false
	}
	rest, found := strings.CutPrefix(text, "PVE:")
	at := strings.LastIndexByte(rest, ':')
	if !found || at < 0 || !fresh(rest[at+1:], now) {
		return "", false
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", false
	}
	if rsa.VerifyPKCS1v15(&signingKey().PublicKey, crypto.SHA256, d.ticketDigest(text, extra), signature) != nil {
		return "", false
	}
	return rest[:at], true
}

// fresh checks the age of a time stamp of eight upper-case hexadecimal digits.
func fresh(stamp string, now time.Time) bool {
	if len(stamp) != 8 || strings.ToUpper(stamp) != stamp {
		return false
	}
	issued, err := strconv.ParseUint(stamp, 16, 32)
	if err != nil {
		return false
	}
	age := time.Duration(now.Unix()-int64(issued)) * time.Second
	return age > -ticketEarly && age < ticketLife
}

// newTicket is the ticket of a signed-in user.
func (d *Datacenter) newTicket(user string, now time.Time) string { return d.assemble(user, "", now) }

// ticketUser returns whose ticket this is; a challenge is nobody's.
func (d *Datacenter) ticketUser(ticket string, now time.Time) (user string, ok bool) {
	data, ok := d.disassemble(ticket, "", now)
	return data, ok && userID.MatchString(data) && !strings.HasPrefix(data, "!tfa!")
}

// newChallenge is the half ticket of a user who still owes a second factor. The user name is signed but not in it.
func (d *Datacenter) newChallenge(user string, c *challenge, now time.Time) string {
	return d.assemble(c.encode(), user, now)
}

// openChallenge returns what a half ticket asks of the user; nil if it is none, or another user's.
func (d *Datacenter) openChallenge(ticket, user string, now time.Time) *challenge {
	data, ok := d.disassemble(ticket, user, now)
	if !ok {
		return nil
	}
	escaped, ok := strings.CutPrefix(data, "!tfa!")
	if !ok {
		return nil
	}
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return nil
	}
	c := new(challenge)
	if json.Unmarshal([]byte(text), c) != nil {
		return nil
	}
	return c
}

// newCSRFToken is bound to the user, not to a ticket (Ticket.pm, assemble_csrf_prevention_token).
func (d *Datacenter) newCSRFToken(user string, now time.Time) string {
	stamp := fmt.Sprintf("%08X", now.Unix())
	return stamp + ":" + d.csrfDigest(stamp, user)
}

func (d *Datacenter) csrfDigest(stamp, user string) string {
	mac := hmac.New(sha256.New, d.id)
	mac.Write([]byte("csrf:" + stamp + ":" + user))
	return base64.RawStdEncoding.EncodeToString(mac.Sum(nil))
}

func (d *Datacenter) verifyCSRFToken(token, user string, now time.Time) bool {
	stamp, digest, ok := strings.Cut(token, ":")
	return ok && fresh(stamp, now) && hmac.Equal([]byte(digest), []byte(d.csrfDigest(stamp, user)))
}
