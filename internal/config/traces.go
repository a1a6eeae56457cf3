package config

import (
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Traces are the flags of traces, as they were given.
type Traces struct {
	TracesEndpoint    string `placeholder:"URL" env:"BERTH_TRACES_ENDPOINT" help:"Where to send traces by OTLP over HTTP, for example http://127.0.0.1:4318. Default: nowhere."`
	TracesHeadersFile string `placeholder:"FILE" env:"BERTH_TRACES_HEADERS_FILE" help:"File with headers that go with traces, such as \"Authorization: Bearer ...\", one in a line."`
}

// TraceSettings are where traces are sent.
type TraceSettings struct {
	// Endpoint is the whole address; empty for nowhere.
	Endpoint string
	Headers  http.Header // may hold secrets
}

// tracesPath is OTLP's own, where an address has none.
const tracesPath = "/v1/traces"

// check returns where traces are sent, or adds problems. They never repeat a header.
func (t Traces) check(p *Problems) TraceSettings {
	var out TraceSettings
	if t.TracesEndpoint != "" {
		u, err := url.Parse(t.TracesEndpoint)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "":
			p.add("traces-endpoint", "BERTH_TRACES_ENDPOINT", "it must be an address such as http://127.0.0.1:4318")
		case u.User != nil:
			p.add("traces-endpoint", "BERTH_TRACES_ENDPOINT", "a password belongs into a header in the file of --traces-headers-file")
		default:
			if u.Path == "" || u.Path == "/" {
				u.Path = tracesPath
			}
			out.Endpoint = u.String()
		}
	}
	if t.TracesHeadersFile == "" {
		return out
	}
	const flag, variable = "traces-headers-file", "BERTH_TRACES_HEADERS_FILE"
	if t.TracesEndpoint == "" {
		p.add(flag, variable, "it needs --traces-endpoint")
	}
	if !isPath(p, flag, variable, t.TracesHeadersFile) {
		return out
	}
	content, err := os.ReadFile(t.TracesHeadersFile)
	switch {
	case err != nil:
		p.add(flag, variable, "%v", err)
		return out
	case len(content) > maxURL:
		p.add(flag, variable, "%s is larger than %d bytes", t.TracesHeadersFile, maxURL)
		return out
	}
	out.Headers = http.Header{}
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); !ok || value == "" || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			p.add(flag, variable, "line %d of %s is not of the form NAME: VALUE", n, t.TracesHeadersFile)
			continue
		}
		out.Headers.Add(name, value)
	}
	return out
}
