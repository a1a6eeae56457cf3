package view

// port is what the port field holds: the default of Proxmox VE until something was typed.
func (l Login) port() string {
	if _, refused := l.Errors["port"]; l.Port == "" && !refused {
		return "8006"
	}
	return l.Port
}

// focus is the field to start at: the first one with an error, else the first empty one.
func (l Login) focus() string {
	for _, name := range [...]string{"host", "port", "username", "password", "realm", "claimCode"} {
		if l.Errors[name] != "" {
			return name
		}
	}
	switch {
	case l.Host == "":
		return "host"
	case l.Username == "":
		return "username"
	default:
		return "password"
	}
}

// kind is the kind of second factor that is chosen: the given one if it can be used here, else the first.
func (f SecondFactor) kind() string {
	for _, k := range f.Kinds {
		if k.Kind == f.Kind {
			return k.Kind
		}
	}
	if len(f.Kinds) > 0 {
		return f.Kinds[0].Kind
	}
	return ""
}

// title is a page's title as the browser shows it.
func title(s Shell) string {
	if s.Title == "" {
		return "Berth"
	}
	return s.Title + " · Berth"
}
