package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"berth/internal/fault"
	"berth/internal/pve"
)

// Port is a port as it was sent: a JSON number, its decimal text, or nothing.
type Port struct {
	text  string
	given bool
}

// NewPort is a port that was given as text, as a form sends it.
func NewPort(text string) Port { return Port{text: text, given: true} }

// UnmarshalJSON takes a number or a string and judges neither; see Number.
func (p *Port) UnmarshalJSON(raw []byte) error {
	if bytes.Equal(raw, []byte("null")) {
		return nil
	}
	p.given = true
	if len(raw) > 0 && raw[0] == '"' {
		return json.Unmarshal(raw, &p.text)
	}
	p.text = string(raw)
	return nil
}

// String is what was sent.
func (p Port) String() string { return p.text }

var errPort = fmt.Errorf("Port must be a whole number from 1 to 65535")

// Number is the port, or Proxmox VE's own if none was given.
func (p Port) Number() (int, error) {
	if !p.given {
		return pve.DefaultPort, nil
	}
	if p.text == "" || len(p.text) > 5 {
		return 0, errPort
	}
	n := 0
	for _, c := range []byte(p.text) {
		if c < '0' || c > '9' {
			return 0, errPort
		}
		n = n*10 + int(c-'0')
	}
	if n < 1 || n > 65535 {
		return 0, errPort
	}
	return n, nil
}

const (
	defaultRealm = "pam"
	// maxUserID and maxPassword are PVE's own limit of a user id (API2/AccessControl.pm, create_ticket) and a bound on
	// what is worth sending as a password.
	maxUserID   = 64
	maxPassword = 4096
)

var (
	unknownRealm = "Realm must be one of pam, pve"
	badRealm     = "Realm is not the name of a realm"
	longUserName = fmt.Sprintf("Username is too long: at most %d characters with its realm", maxUserID)
)

const badFingerprint = "Fingerprint must be the 32 bytes of a SHA-256 in hexadecimal"

// SignInInput is what a visitor sends to sign in.
type SignInInput struct {
	Host     string `json:"host" doc:"Proxmox VE host: a name, an IP address, or the address of its web interface as pasted" example:"192.168.1.100"`
	Port     Port   `json:"port,omitzero"`
	Username string `json:"username" example:"root"`
	Password string `json:"password"`
	Realm    string `json:"realm,omitempty" doc:"a realm of the host; pam or pve where nobody has signed in yet. What follows the last @ of the user name wins if it is one of them" default:"pam"`
	// Fingerprint confirms the certificate of a host that nobody vouches for yet.
	Fingerprint string `json:"fingerprint,omitempty" doc:"SHA-256 fingerprint that a 409 certificate_unknown answer named, to confirm it"`
	// ClaimCode is for the first sign-in of a new installation.
	ClaimCode string `json:"claimCode,omitempty" doc:"the code that Berth printed when it started, for the first sign-in of all"`
}

// credentials is a sign-in that has passed its checks.
type credentials struct {
	address     pve.Address
	name        string // as typed; with its realm until the realms of the host are known
	userID      string
	realm       string
	openID      bool // the realm's users sign in at an identity provider
	password    string
	fingerprint *pve.Fingerprint
	claimCode   string
}

// Validate reports every field that can't be right.
func (in SignInInput) Validate() error {
	_, err := in.check()
	return err
}

func (in SignInInput) check() (credentials, error) {
	var c credentials
	fields := map[string]string{}

	c.address = ReadAddress(in.Host, in.Port, fields)

	c.name = strings.TrimSpace(in.Username)
	c.realm = in.Realm
	if c.realm == "" {
		c.realm = defaultRealm
	}
	rest := ""
	if at := strings.LastIndexByte(c.name, '@'); at >= 0 {
		if rest = c.name[at+1:]; isBuiltin(rest) {
			c.name, c.realm, rest = c.name[:at], rest, ""
		}
	}
	c.userID = c.name + "@" + c.realm
	switch {
	case c.name == "":
		fields["username"] = "Username is required"
	case strings.ContainsFunc(c.name, notInUserName):
		fields["username"] = "Username can't contain spaces, colons, slashes or control characters"
	case len(c.name) > maxUserID, len(c.userID) > maxUserID && rest == "":
		fields["username"] = longUserName
	}
	if !realmName.MatchString(c.realm) {
		fields["realm"] = badRealm
	}

	switch {
	case in.Password == "":
		fields["password"] = "Password is required"
	case len(in.Password) > maxPassword:
		fields["password"] = fmt.Sprintf("Password is too long: at most %d bytes", maxPassword)
	}
	c.password = in.Password
	if c.claimCode = strings.ToLower(strings.TrimSpace(in.ClaimCode)); len(c.claimCode) > maxCode {
		fields["claimCode"] = "This is not the claim code that Berth printed when it started"
	}

	if in.Fingerprint != "" {
		f, err := pve.ParseFingerprint(in.Fingerprint)
		if err != nil {
			fields["fingerprint"] = badFingerprint
		}
		c.fingerprint = &f
	}
	return c, fault.InvalidInput(fields)
}

// Account reads an input as the account at a host that it names, with the certificate that it confirms, if it does.
func (in SignInInput) Account() (at pve.Address, userID string, fingerprint *pve.Fingerprint, err error) {
	c, err := in.check()
	return c.address, c.userID, c.fingerprint, err
}

// ReadAddress reads an address as two form fields give it, and notes what is wrong with them.
func ReadAddress(host string, port Port, fields map[string]string) pve.Address {
	number, err := port.Number()
	if err != nil {
		fields["port"] = err.Error()
		number = pve.DefaultPort
	}
	if strings.TrimSpace(host) == "" {
		fields["host"] = "Proxmox host is required"
		return pve.Address{}
	}
	at, err := pve.ParseAddress(host, number)
	var bad *pve.InputError
	switch {
	case errors.As(err, &bad):
		fields[bad.Field] = bad.Message
	case err != nil:
		fields["host"] = "Proxmox host is not a host name or IP address"
	}
	return at
}

// notInUserName follows PVE's user_regex (Auth/Plugin.pm): no white space, colon or slash.
func notInUserName(r rune) bool {
	return r == ':' || r == '/' || unicode.IsSpace(r) || !unicode.IsPrint(r)
}

// SecondFactorInput is what a visitor sends as second step.
type SecondFactorInput struct {
	Challenge string `json:"challenge" doc:"from the answer that asked for a second factor"`
	Kind      string `json:"kind" doc:"totp, recovery or yubico"`
	Code      string `json:"code" doc:"as text: leading zeros count"`
}

const maxCode = 256

// Validate reports every field that can't be right.
func (in SecondFactorInput) Validate() error {
	fields := map[string]string{}
	if in.Challenge == "" || len(in.Challenge) > 64 {
		fields["challenge"] = "Challenge is required: the text that asked for the second factor"
	}
	if !isFactor(in.Kind) {
		fields["kind"] = "Kind must be one of totp, recovery, yubico"
	}
	switch code := in.code(); {
	case code == "":
		fields["code"] = "Code is required"
	case len(code) > maxCode || strings.ContainsFunc(code, func(r rune) bool { return !unicode.IsPrint(r) }):
		fields["code"] = "Code is not one that Proxmox VE gives out"
	}
	return fault.InvalidInput(fields)
}

// recoveryDigits are a recovery code without the hyphens between them.
var recoveryDigits = regexp.MustCompile(`^[0-9a-f]{16}$`)

// code is the code without the spaces that authenticator apps show in it. A recovery code is brought into the one form in
// which PVE compares them (proxmox-tfa, Recovery::generate), however it was noted down.
func (in SecondFactorInput) code() string {
	code := strings.Join(strings.Fields(in.Code), "")
	if pve.Factor(in.Kind) != pve.FactorRecovery {
		return code
	}
	code = strings.ToLower(code)
	if digits := strings.ReplaceAll(code, "-", ""); recoveryDigits.MatchString(digits) {
		code = digits[0:4] + "-" + digits[4:8] + "-" + digits[8:12] + "-" + digits[12:16]
	}
	return code
}

func isFactor(kind string) bool {
	switch pve.Factor(kind) {
	case pve.FactorTOTP, pve.FactorRecovery, pve.FactorYubico:
		return true
	}
	return false
}
