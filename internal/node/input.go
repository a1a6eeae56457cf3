package node

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/internal/auth"
	"berth/internal/fault"
	"berth/internal/pve"
)

// Settings are what people set of a node. In a change what is left out stays as it is.
type Settings struct {
	Name string    `json:"name,omitempty" doc:"unique among your nodes; the host's if left out" example:"attic"`
	Host string    `json:"host,omitempty" doc:"a name, an IP address, or the address of its web interface as pasted; not with loginHost" example:"192.168.1.101"`
	Port auth.Port `json:"port,omitzero"`
	// Fingerprint confirms a certificate that nobody vouches for yet.
	Fingerprint string `json:"fingerprint,omitempty" doc:"SHA-256 fingerprint that a 409 certificate_unknown answer named, to confirm it"`
	Credential  string `json:"credential,omitempty" enum:"session,made,token" doc:"session: your sign-in; made: an API token that Berth makes for you, with your sign-in (loginHost) or with a password that is not stored (host, username, password); token: an API token of your own"`
	LoginHost   string `json:"loginHost,omitempty" doc:"id of one of the login hosts that GET /api/nodes names"`
	Username    string `json:"username,omitempty" example:"root"`
	Password    string `json:"password,omitempty" doc:"used once, never stored"`
	Realm       string `json:"realm,omitempty" default:"pam"`
	TokenID     string `json:"tokenId,omitempty" example:"root@pam!berth"`
	TokenSecret string `json:"tokenSecret,omitempty" doc:"never sent back"`
	// IsDefault can only be set: the default is passed on by making another node the default.
	IsDefault *bool `json:"isDefault,omitempty"`
	// SameAs says whether another node leads to the same Proxmox installation, where Berth can't prove it.
	SameAs string `json:"sameAs,omitempty" doc:"id of another node that leads to the same Proxmox installation, or none: its containers are then listed once"`
	SecondStep
}

// SecondStep answers the question for a second factor. With a challenge nothing else of an input counts.
type SecondStep struct {
	Challenge string `json:"challenge,omitempty" doc:"from the answer that asked for a second factor"`
	Kind      string `json:"kind,omitempty" doc:"totp, recovery or yubico"`
	Code      string `json:"code,omitempty" doc:"as text: leading zeros count"`
}

func (s SecondStep) validate() error {
	return auth.SecondFactorInput{Challenge: s.Challenge, Kind: s.Kind, Code: s.Code}.Validate()
}

// deed is what the settings are given for.
func (in Settings) deed(kind DeedKind) Deed {
	return Deed{Kind: kind, IsDefault: in.IsDefault != nil && *in.IsDefault, SameAs: in.SameAs}
}

// notSame is what SameAs says of a node that shares its installation with none.
const notSame = "none"

// AddInput is a new node.
type AddInput struct{ Settings }

// Validate reports every field that can't be right.
func (in AddInput) Validate() error {
	if in.Challenge != "" {
		return in.SecondStep.validate()
	}
	_, err := in.plan(nil)
	return err
}

// ChangeInput is what changes of a node.
type ChangeInput struct {
	ID string `json:"-" path:"id" doc:"id of the node"`
	Settings
}

// check reports the fields that can't be right whatever the node is like. It is asked once there is such a node: nobody
// learns anything by another one's id.
func (in ChangeInput) check() error {
	if in.Challenge != "" {
		return in.SecondStep.validate()
	}
	fields := map[string]string{}
	checkName(in.Name, fields)
	if in.IsDefault != nil && !*in.IsDefault {
		fields["isDefault"] = "Make another node the default instead"
	}
	return fault.InvalidInput(fields)
}

// TestInput is a node as it is (id alone), or as it would be.
type TestInput struct {
	ID string `json:"id,omitempty" doc:"id of one of your nodes, alone"`
	Settings
}

// Validate reports every field that can't be right.
func (in TestInput) Validate() error {
	switch {
	case in.ID == "":
		return AddInput{in.Settings}.Validate()
	case in.Settings != Settings{}:
		// What is stored must never meet what was typed.
		return fault.InvalidInput(map[string]string{"id": "A test is of a node as it is stored, or of what was given with it in full, never of both"})
	}
	return nil
}

// plan is what a checked input asks for.
type plan struct {
	name       string
	unnamed    bool // by its owner, so that the host's own name is taken
	credential Credential
	loginHost  string
	address    pve.Address // zero with a login host
	trust      pve.Trust
	tokenID    string
	secret     string
	userID     string // who signs in there, with the password
	password   string
}

var (
	// tokenID is PVE::AccessControl's user_regex, realm_regex and token_subid_regex.
	tokenID = regexp.MustCompile(`^[^\s:/!]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+$`)
	// tokenSecret is a UUID, which is all that Proxmox VE makes.
	tokenSecret = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
)

const maxTokenID = 128

func checkName(name string, fields map[string]string) string {
	name = strings.TrimSpace(name)
	switch {
	case len(name) > maxName:
		fields["name"] = fmt.Sprintf("Name is too long: at most %d bytes", maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		fields["name"] = "Name can't contain control characters"
	}
	return name
}

// plan reads an input, of a new node or of a change to the one before.
func (in Settings) plan(before *Record) (plan, error) {
	fields := map[string]string{}
	p := plan{name: checkName(in.Name, fields), credential: Credential(in.Credential), loginHost: in.LoginHost}
	if before != nil {
		in, p = in.over(*before, p)
	}
	switch {
	case p.credential == BySession, p.credential == ByMadeToken && (p.loginHost != "" || in.Host == "" && in.Username == "" && in.Password == ""):
		if p.loginHost == "" {
			fields["loginHost"] = "Choose one of the login hosts"
		}
	case p.credential == ByMadeToken:
		var confirmed *pve.Fingerprint
		var err error
		p.address, p.userID, confirmed, err = auth.SignInInput{
			Host: in.Host, Port: in.Port, Username: in.Username, Password: in.Password, Realm: in.Realm, Fingerprint: in.Fingerprint,
		}.Account()
		if f := fault.As(err); f != nil {
			for name, message := range f.Fields {
				fields[name] = message
			}
		}
		p.password, p.trust.Certificate = in.Password, confirmed
	case p.credential == ByToken:
		p.address = auth.ReadAddress(in.Host, in.Port, fields)
		if in.Fingerprint != "" {
			confirmed, err := pve.ParseFingerprint(in.Fingerprint)
			if err != nil {
				fields["fingerprint"] = "Fingerprint must be the 32 bytes of a SHA-256 in hexadecimal"
			}
			p.trust.Certificate = &confirmed
		}
		p.tokenID, p.secret = strings.TrimSpace(in.TokenID), strings.TrimSpace(in.TokenSecret)
		if len(p.tokenID) > maxTokenID || !tokenID.MatchString(p.tokenID) || strings.ContainsFunc(p.tokenID, func(r rune) bool { return !unicode.IsPrint(r) }) {
			fields["tokenId"] = "Token ID must be of the form user@realm!name"
		}
		switch {
		case p.secret == "" && before != nil && before.Credential == ByToken:
			fields["tokenSecret"] = "The secret must be given again: the one that is stored goes only to the address, under the certificate and for the token that it was given for"
		case !tokenSecret.MatchString(p.secret):
			fields["tokenSecret"] = "Secret must be a UUID, as Proxmox VE shows it once: xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
		}
	default:
		fields["credential"] = "Credential must be one of session, made, token"
	}
	if before != nil && p.trust.Certificate == nil && p.address == before.Address {
		p.trust.Key = before.Key
	}
	return p, fault.InvalidInput(fields)
}

// over fills in what a change leaves as it is. A secret is never among it.
func (in Settings) over(before Record, p plan) (Settings, plan) {
	if p.name == "" {
		p.name = before.Name
	}
	sameCredential := in.Credential == "" || p.credential == before.Credential
	if in.Credential == "" {
		p.credential = before.Credential
	}
	if sameCredential && in.Host == "" && p.loginHost == "" && in.Username == "" {
		p.loginHost = before.LoginHost
	}
	if before.Credential == BySession {
		return in, p
	}
	if in.Host == "" {
		in.Host = before.Address.Host
		if in.Port == (auth.Port{}) {
			in.Port = auth.NewPort(fmt.Sprint(before.Address.Port))
		}
	}
	if in.TokenID == "" && p.credential == ByToken && before.Credential == ByToken {
		in.TokenID = before.TokenID
	}
	return in, p
}

// touches tells whether a change is of more than what the node is called here: then it is tried before it is saved.
func (in Settings) touches(before Record) bool {
	fields := map[string]string{}
	at := before.Address
	if in.Host != "" || in.Port != (auth.Port{}) {
		host := in.Host
		if host == "" {
			host = before.Address.Host
		}
		at = auth.ReadAddress(host, in.Port, fields)
	}
	fingerprint := before.Fingerprint
	if in.Fingerprint != "" {
		fingerprint, _ = pve.ParseFingerprint(in.Fingerprint) // what can't be read is another one
	}
	return len(fields) > 0 || at != before.Address || fingerprint != before.Fingerprint ||
		in.Credential != "" && in.Credential != string(before.Credential) ||
		in.LoginHost != "" && in.LoginHost != before.LoginHost ||
		in.TokenID != "" && in.TokenID != before.TokenID ||
		in.TokenSecret != "" || in.Username != "" || in.Password != ""
}
