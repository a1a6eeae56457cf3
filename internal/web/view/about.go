package view

// About is the page /settings/about: what Berth is, and what it sees of the request for this very page.
type About struct {
	Shell
	Version  string
	Warnings []string // a sentence each
	Address  string   // whom the request is from
	Proxy    string   // the address of the trusted proxy that said so; empty without one
	Protocol string   // HTTP or HTTPS, on the client's side
	HTTP     string   // "HTTP/1.1", on Berth's side
	// AskedHost is the Host header, Base the path below which everything is.
	AskedHost, Base string
	Headers         []ForwardedHeader
}

// ForwardedHeader is a header that proxies add to a request.
type ForwardedHeader struct {
	Name, Value string
	Believed    bool
}
