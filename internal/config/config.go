package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/internal/pve"
)

// keyFileName is the name of the key in the data folder.
const keyFileName = "berth.key"

// maxIdle is a Proxmox VE ticket's life: no session outlives the ticket inside it unused.
const maxIdle = 2 * time.Hour

// Serve are the flags of `berth serve` as they were given. All are text, so that Check can report every problem in one go.
type Serve struct {
	Listen      string `placeholder:"HOST:PORT" default:"127.0.0.1:8080" env:"BERTH_LISTEN" help:"Address to serve on."`
	Data        string `placeholder:"FOLDER" env:"BERTH_DATA" help:"Folder for the database and its key. Default: berth in the XDG state folder."`
	TLS         string `name:"tls" placeholder:"self" env:"BERTH_TLS" help:"\"self\" makes a certificate of Berth's own and shows its fingerprint."`
	TLSCert     string `name:"tls-cert" placeholder:"FILE" env:"BERTH_TLS_CERT" help:"Certificate chain (PEM) to serve with."`
	TLSKey      string `name:"tls-key" placeholder:"FILE" env:"BERTH_TLS_KEY,BERTH_TLS_KEY_FILE" help:"Private key (PEM) of the certificate."`
	Key         string `name:"key-file" placeholder:"FILE" env:"BERTH_KEY_FILE" help:"Key that secrets are sealed with. Default: berth.key in the data folder, made at first start."`
	SessionIdle string `placeholder:"DURATION" default:"2h" env:"BERTH_SESSION_IDLE" help:"A session ends when it was not used for this long."`
	SessionMax  string `placeholder:"DURATION" default:"168h" env:"BERTH_SESSION_MAX" help:"A session ends after this long in any case."`
	TokenIdle   string `placeholder:"DAYS" default:"30" env:"BERTH_TOKEN_IDLE" help:"Access tokens work for this long after their owner's last sign-in."`
	MaxNodes    string `placeholder:"N" default:"50" env:"BERTH_MAX_NODES" help:"How many nodes each user can have."`

	Database
	Shared
	StartTimeout string `placeholder:"DURATION" default:"30s" env:"BERTH_START_TIMEOUT" help:"How long a start waits for PostgreSQL and Redis."`

	LoginHosts    string   `placeholder:"claim|any|LIST" default:"claim" env:"BERTH_LOGIN_HOSTS" help:"Which Proxmox hosts people may sign in with: \"claim\" (the first sign-in decides), a list such as pve.lan,10.0.0.2:8006, or \"any\" (needs --allow-networks)."`
	AllowNetworks []string `placeholder:"CIDR" env:"BERTH_ALLOW_NETWORKS" help:"Networks that Proxmox hosts may be in, for example 192.168.1.0/24. Default: all."`
	CAFile        string   `name:"ca-file" placeholder:"FILE" env:"BERTH_CA_FILE" help:"Certificate authorities (PEM) that Proxmox hosts' certificates may come from, beside the system's."`

	PublicURL      string   `name:"public-url" placeholder:"URL" env:"BERTH_PUBLIC_URL" help:"Address that people open, for example https://berth.example.org/berth."`
	Hosts          []string `placeholder:"NAME" env:"BERTH_HOSTS" help:"Further names that Berth is asked for under, beside IP addresses, localhost, the machine's name and that of --public-url."`
	BasePath       string   `placeholder:"PATH" env:"BERTH_BASE_PATH" help:"Path below which a proxy serves Berth, for example /berth. Default: that of --public-url."`
	TrustedProxies []string `placeholder:"CIDR" env:"BERTH_TRUSTED_PROXIES" help:"Addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."`
	MetricsListen  string   `placeholder:"HOST:PORT" env:"BERTH_METRICS_LISTEN" help:"Address of its own to serve metrics on, for Prometheus: /metrics, without TLS or a password. Default: none."`
	Traces
	AuditDays string `placeholder:"DAYS" default:"90" env:"BERTH_AUDIT_DAYS" help:"How long the audit trail is kept."`
	Log
}

// Log are the flags of the log.
type Log struct {
	LogFormat string `placeholder:"text|json" default:"text" env:"BERTH_LOG_FORMAT" help:"Form of the log: text or json."`
	LogLevel  string `placeholder:"LEVEL" default:"info" env:"BERTH_LOG_LEVEL" help:"debug, info, warn or error."`
}

// Settings are flags that were found right.
type Settings struct {
	Listen string // host:port
	Data   string // folder
	// Database is the address of a database on a server, maybe with a password; empty for the file in the data folder.
	Database string
	// SelfTLS asks for a certificate of Berth's own.
	SelfTLS bool
	// Certificate is what to serve with; nil without --tls-cert.
	Certificate             *tls.Certificate
	KeyFile                 string
	SessionIdle, SessionMax time.Duration
	// TokenIdle is for how long access tokens work after their owner's last sign-in; 0 for the default.
	TokenIdle time.Duration
	// MaxNodes is how many nodes an identity can have; 0 for the default.
	MaxNodes int

	// Redis is the address of what several replicas share; empty for one that shares nothing. It may hold a password.
	Redis string
	// StartTimeout bounds how long the start waits for PostgreSQL, and then for Redis.
	StartTimeout time.Duration

	LoginHosts LoginHosts
	// AllowNetworks are where Proxmox hosts may be; empty for everywhere that is not forbidden anyway.
	AllowNetworks []netip.Prefix
	// Roots verify Proxmox hosts' certificates; nil for the system's alone.
	Roots *x509.CertPool

	// PublicURL is the address that people open, without a slash at the end; nil if it was not given.
	PublicURL *url.URL
	// Hosts are further names that Berth may be asked for under, in lower case, without ports.
	Hosts []string
	// BasePath is "" at the root of the site, else "/berth": no slash at the end.
	BasePath       string
	TrustedProxies []netip.Prefix
	AuditKept      time.Duration

	// MetricsListen is where metrics are served, host:port; empty for nowhere.
	MetricsListen string

	// Traces is where traces are sent.
	Traces TraceSettings

	Log LogSettings
}

// LoginHosts is who may vouch for people.
type LoginHosts struct {
	Mode LoginHostsMode
	// List are the addresses of the mode ListedHosts.
	List []pve.Address
}

// LoginHostsMode is how the login hosts are decided.
type LoginHostsMode int

const (
	// ClaimedHosts: the first successful sign-in decides.
	ClaimedHosts LoginHostsMode = iota
	// ListedHosts: exactly those of a list.
	ListedHosts
	// AnyHost may vouch, each for its own datacenter.
	AnyHost
)

// LogSettings are the settings of the log.
type LogSettings struct {
	JSON  bool
	Level slog.Level
}

// Problems are everything that is wrong with the flags, a sentence each.
type Problems []string

func (p Problems) Error() string { return strings.Join(p, "\n") }

// add notes one problem of a flag that can also be given as a variable.
func (p *Problems) add(flag, variable, format string, args ...any) {
	*p = append(*p, fmt.Sprintf("--%s (%s): %s", flag, variable, fmt.Sprintf(format, args...)))
}

// OrNil is the problems as an error; nil if there are none.
func (p Problems) OrNil() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Check turns flags into settings, or returns Problems.
func (s Serve) Check() (Settings, error) {
	var p Problems
	out := Settings{Listen: s.Listen, SelfTLS: s.TLS == "self", Log: s.Log.check(&p)}
	if why := checkListen(s.Listen); why != "" {
		p.add("listen", "BERTH_LISTEN", "%s", why)
	}
	if out.MetricsListen = s.MetricsListen; s.MetricsListen != "" {
		if why := checkListen(s.MetricsListen); why != "" {
			p.add("metrics-listen", "BERTH_METRICS_LISTEN", "%s", why)
		}
	}

	out.Traces = s.Traces.check(&p)

	out.Data = s.Data
	if out.Data == "" {
		folder, err := stateFolder()
		if err != nil {
			p.add("data", "BERTH_DATA", "there is no default folder here (%v), so it has to be given", err)
		}
		out.Data = folder
	}
	out.KeyFile = s.Key
	isPath(&p, "key-file", "BERTH_KEY_FILE", s.Key)
	if out.KeyFile == "" {
		out.KeyFile = filepath.Join(out.Data, keyFileName)
	}

	out.Database = s.Database.check(&p)

	if s.TLS != "" && s.TLS != "self" {
		p.add("tls", "BERTH_TLS", "%q is not known: the only value is self", s.TLS)
	}
	if out.SelfTLS && (s.TLSCert != "" || s.TLSKey != "") {
		p.add("tls", "BERTH_TLS", "it can't be combined with --tls-cert and --tls-key")
	}
	out.Certificate = loadCertificate(&p, s.TLSCert, s.TLSKey)

	out.SessionIdle = checkDuration(&p, "session-idle", "BERTH_SESSION_IDLE", s.SessionIdle, time.Minute, maxIdle)
	out.SessionMax = checkDuration(&p, "session-max", "BERTH_SESSION_MAX", s.SessionMax, time.Minute, 365*24*time.Hour)
	out.TokenIdle = checkDays(&p, "token-idle", "BERTH_TOKEN_IDLE", s.TokenIdle)
	out.MaxNodes = checkNodes(&p, s.MaxNodes)
	out.Redis = s.Shared.check(&p)
	out.StartTimeout = checkDuration(&p, "start-timeout", "BERTH_START_TIMEOUT", s.StartTimeout, 0, time.Hour)
	s.checkHosts(&p, &out)
	s.checkSite(&p, &out)
	return out, p.OrNil()
}

// loadCertificate reads a certificate and its key, if they are given, or adds problems and returns nil.
func loadCertificate(p *Problems, certificate, key string) *tls.Certificate {
	chain := readFile(p, "tls-cert", "BERTH_TLS_CERT", certificate)
	private := readFile(p, "tls-key", "BERTH_TLS_KEY", key)
	switch {
	case certificate != "" && key == "":
		p.add("tls-key", "BERTH_TLS_KEY", "it is needed with --tls-cert")
	case certificate == "" && key != "":
		p.add("tls-cert", "BERTH_TLS_CERT", "it is needed with --tls-key")
	}
	if chain == nil || private == nil {
		return nil
	}
	pair, err := tls.X509KeyPair(chain, private)
	if err != nil {
		p.add("tls-cert", "BERTH_TLS_CERT", "%s and %s are not a certificate and its key: %v", certificate, key, err)
		return nil
	}
	return &pair
}

// readFile is what is in a file, or nil: there is none, or a problem was added.
func readFile(p *Problems, flag, variable, name string) []byte {
	if name == "" || !isPath(p, flag, variable, name) {
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		p.add(flag, variable, "%v", err)
		return nil
	}
	return text
}

// Check turns the flags of the log into settings, or returns Problems.
func (l Log) Check() (LogSettings, error) {
	var p Problems
	out := l.check(&p)
	return out, p.OrNil()
}

func (l Log) check(p *Problems) LogSettings {
	out := LogSettings{JSON: l.LogFormat == "json"}
	if l.LogFormat != "text" && l.LogFormat != "json" {
		p.add("log-format", "BERTH_LOG_FORMAT", "%q is not one of text, json", l.LogFormat)
	}
	switch l.LogLevel {
	case "debug":
		out.Level = slog.LevelDebug
	case "info":
		out.Level = slog.LevelInfo
	case "warn":
		out.Level = slog.LevelWarn
	case "error":
		out.Level = slog.LevelError
	default:
		p.add("log-level", "BERTH_LOG_LEVEL", "%q is not one of debug, info, warn, error", l.LogLevel)
	}
	return out
}

func checkListen(text string) string {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Sprintf("%q is not HOST:PORT, for example 127.0.0.1:8080", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return fmt.Sprintf("port %q is not a whole number from 0 to 65535", port)
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return ""
	}
	if strings.ContainsAny(host, "/@ \t") {
		return fmt.Sprintf("%q is not HOST:PORT, for example 127.0.0.1:8080", text)
	}
	return ""
}

func checkDuration(p *Problems, flag, variable, text string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		p.add(flag, variable, "%q is not a duration, for example 90m or 2h", text)
	case d < least || d > most:
		p.add(flag, variable, "%s is out of range: from %s to %s", text, least, most)
	}
	return d
}

func checkDays(p *Problems, flag, variable, text string) time.Duration {
	days, err := strconv.Atoi(text)
	if err != nil || days < 1 || days > 3650 {
		p.add(flag, variable, "%q is not a whole number from 1 to 3650", text)
	}
	return time.Duration(days) * 24 * time.Hour
}

func checkNodes(p *Problems, text string) int {
	if text == "" {
		return 0
	}
	most, err := strconv.Atoi(text)
	if err != nil || most < 1 || most > 1000 {
		p.add("max-nodes", "BERTH_MAX_NODES", "%q is not a whole number from 1 to 1000", text)
	}
	return most
}

// stateFolder is the XDG base directory for what a program keeps, with Berth's own folder in it.
func stateFolder() (string, error) {
	// The specification says to ignore a relative path.
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "berth"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "berth"), nil
}

// isPath refuses what is the content of a file rather than its name, without repeating it: it may be a secret.
func isPath(p *Problems, flag, variable, text string) bool {
	if strings.ContainsAny(text, "\n\r\x00") || strings.Contains(text, "-----BEGIN") {
		p.add(flag, variable, "it must name a file, not hold what is in one")
		return false
	}
	return true
}
