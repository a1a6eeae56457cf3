package view

// Realm is one choice of a host's realms.
type Realm struct {
	Name, Comment string
	OpenID        bool   // its users sign in at an identity provider
	Unavailable   string // why nobody can sign in with it here; empty when people can
}

// maxComment bounds what is shown of a realm's comment, in characters.
const maxComment = 60

// Label is the realm for people: its name, and what its host says about it. The page's script has the same rule.
func (r Realm) Label() string {
	comment := []rune(r.Comment)
	if len(comment) == 0 {
		return r.Name
	}
	if len(comment) > maxComment {
		comment = append(comment[:maxComment-1], '…')
	}
	return r.Name + " · " + string(comment)
}

// Provider is the way to the identity provider of a realm.
type Provider struct {
	Link    string // https only; whoever fills it in has checked that
	Host    string // of the link, with its port if it is a special one
	Realm   string
	Address string // of the Proxmox host, for people
}

// OpenIDReturn is the page /login/openid.
type OpenIDReturn struct {
	Shell
	Code, State string // empty when there is nothing to finish
	Refused     bool   // the identity provider said so
	Begun       bool   // in this browser, so that it may go on by itself
}

// realmHint says why some realm can't be chosen.
func (l Login) realmHint() string {
	for _, r := range l.Realms {
		if r.Unavailable != "" {
			return r.Name + ": " + r.Unavailable + "."
		}
	}
	return ""
}

// providerRealm is what stands on the button while a realm with an identity provider is chosen.
func (l Login) providerRealm() string {
	for _, r := range l.Realms {
		if r.OpenID && r.Name == l.Realm {
			return r.Name
		}
	}
	return "single sign-on"
}
