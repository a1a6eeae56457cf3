package config

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"os"
	"path"
	"strings"

	"berth/internal/pve"
)

// checkHosts checks which Proxmox hosts Berth may deal with.
func (s Serve) checkHosts(p *Problems, out *Settings) {
	out.AllowNetworks = checkPrefixes(p, "allow-networks", "BERTH_ALLOW_NETWORKS", s.AllowNetworks)
	switch strings.TrimSpace(s.LoginHosts) {
	case "claim":
		out.LoginHosts.Mode = ClaimedHosts
	case "any":
		out.LoginHosts.Mode = AnyHost
		if len(s.AllowNetworks) == 0 {
			p.add("login-hosts", "BERTH_LOGIN_HOSTS", "any needs --allow-networks (BERTH_ALLOW_NETWORKS), so that strangers can't point Berth at every machine")
		}
	case "":
		p.add("login-hosts", "BERTH_LOGIN_HOSTS", "it must be claim, any or a list of hosts")
	default:
		out.LoginHosts.Mode = ListedHosts
		for part := range strings.SplitSeq(s.LoginHosts, ",") {
			at, err := pve.ParseAddress(strings.TrimSpace(part), 0)
			var bad *pve.InputError
			switch {
			case errors.As(err, &bad):
				p.add("login-hosts", "BERTH_LOGIN_HOSTS", "%q: %s", strings.TrimSpace(part), bad.Message)
			case err != nil:
				p.add("login-hosts", "BERTH_LOGIN_HOSTS", "%q: %v", strings.TrimSpace(part), err)
			default:
				out.LoginHosts.List = append(out.LoginHosts.List, at)
			}
		}
	}
	if s.CAFile == "" || !isPath(p, "ca-file", "BERTH_CA_FILE", s.CAFile) {
		return
	}
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		p.add("ca-file", "BERTH_CA_FILE", "%v", err)
		return
	}
	if out.Roots, err = x509.SystemCertPool(); err != nil {
		out.Roots = x509.NewCertPool()
	}
	if !out.Roots.AppendCertsFromPEM(text) {
		p.add("ca-file", "BERTH_CA_FILE", "%s holds no certificate in PEM form", s.CAFile)
	}
}

// checkSite checks how Berth is reached.
func (s Serve) checkSite(p *Problems, out *Settings) {
	out.TrustedProxies = checkPrefixes(p, "trusted-proxies", "BERTH_TRUSTED_PROXIES", s.TrustedProxies)
	for _, name := range s.Hosts {
		if name = strings.ToLower(strings.TrimSpace(name)); name == "" || strings.ContainsAny(name, "/:@ ") {
			p.add("hosts", "BERTH_HOSTS", "%q is not a host name", name)
			continue
		}
		out.Hosts = append(out.Hosts, name)
	}
	if s.PublicURL != "" {
		u, err := url.Parse(s.PublicURL)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			p.add("public-url", "BERTH_PUBLIC_URL", "it must be an address such as https://berth.example.org or https://example.org/berth")
		} else {
			u.Path = strings.TrimRight(u.Path, "/")
			out.PublicURL, out.BasePath = u, u.Path
		}
	}
	if s.BasePath != "" {
		out.BasePath = strings.TrimRight(s.BasePath, "/")
	}
	if out.BasePath != "" && (out.BasePath[0] != '/' || path.Clean(out.BasePath) != out.BasePath || strings.ContainsFunc(out.BasePath, notInBasePath)) {
		p.add("base-path", "BERTH_BASE_PATH", "%q is not a path such as /berth", out.BasePath)
	}
	if out.PublicURL != nil && s.BasePath != "" && out.PublicURL.Path != "" && out.PublicURL.Path != out.BasePath {
		p.add("base-path", "BERTH_BASE_PATH", "%q is not the path of --public-url, %q", out.BasePath, out.PublicURL.Path)
	}
	out.AuditKept = checkDays(p, "audit-days", "BERTH_AUDIT_DAYS", s.AuditDays)
}

// notInBasePath tells which characters a base path must not have: there is to be one way alone to write it.
func notInBasePath(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("/-._~", c))
}

// checkPrefixes reads networks, single addresses among them.
func checkPrefixes(p *Problems, flag, variable string, texts []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range texts {
		text = strings.TrimSpace(text)
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil || addr.Zone() != "" {
				p.add(flag, variable, "%q is neither a network such as 192.168.1.0/24 nor an address", text)
				continue
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes
}
