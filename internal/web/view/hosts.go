package view

// LoginHosts is the page /settings/hosts, for owners.
type LoginHosts struct {
	Shell
	Hosts []LoginHost
	// Host and Port are what was typed to add one; Errors are by field name.
	Host, Port string
	Errors     map[string]string
	Failure    *Failure
	Done       string // what was just done, in a sentence
}

// LoginHost is one host that people sign in with.
type LoginHost struct {
	ID, Address string
	Fingerprint string // of the certificate that was accepted last
	Pinned      bool   // else its certificate verifies against the authorities
	Yours       bool   // of the owner's own Proxmox installation
	Added       string // a date for people
}

// LoginHostChange is the page on which an owner confirms a change of one login host.
type LoginHostChange struct {
	Shell
	Host LoginHost
	// Presented is the fingerprint that the host presents now, for a new pin; empty when it is to be removed.
	Presented string
	// Changed tells that it is another one than was accepted last.
	Changed bool
	Failure *Failure
}
