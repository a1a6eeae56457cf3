package session

import "strings"

// Device is the client's own name in words that a person understands: "Firefox on Linux". Everybody can send any name, so
// it helps to recognise a device and proves nothing.
func (c Client) Device() string {
	program, system := c.program(), c.system()
	switch {
	case c.UserAgent == "":
		return "An unnamed client"
	case program == "" && system == "":
		return "Another client"
	case program == "":
		return "A browser on " + system
	case system == "":
		return program
	}
	return program + " on " + system
}

// mark is a part of a user agent, and what it stands for. The first one that matches counts: browsers name others that
// they want to be taken for, so the more particular come first.
type mark struct{ part, name string }

var (
	programs = []mark{
		{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"OPR/", "Opera"}, {"Vivaldi/", "Vivaldi"},
		{"SamsungBrowser/", "Samsung Internet"}, {"DuckDuckGo/", "DuckDuckGo"}, {"FxiOS/", "Firefox"}, {"Firefox/", "Firefox"},
		{"HeadlessChrome/", "Chrome without a window"}, {"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Chromium/", "Chromium"},
		{"Version/", "Safari"},
	}
	systems = []mark{
		{"Windows", "Windows"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"CrOS", "ChromeOS"},
		{"Macintosh", "macOS"}, {"Mac OS X", "macOS"}, {"FreeBSD", "FreeBSD"}, {"OpenBSD", "OpenBSD"}, {"Linux", "Linux"},
	}
)

func find(marks []mark, in string) string {
	for _, m := range marks {
		if strings.Contains(in, m.part) {
			return m.name
		}
	}
	return ""
}

// program is a browser's name, or what a program puts before the first slash: "curl/8.5.0" is curl.
func (c Client) program() string {
	if strings.HasPrefix(c.UserAgent, "Mozilla/") {
		return find(programs, c.UserAgent)
	}
	name, _, _ := strings.Cut(c.UserAgent, "/")
	name, _, _ = strings.Cut(name, " ")
	if len(name) > 32 {
		return ""
	}
	return name
}

func (c Client) system() string { return find(systems, c.UserAgent) }
