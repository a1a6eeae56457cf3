package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

type wrongFlag struct{ flag, variable, value string }

// wrong are flags of serve with values that can't be right.
var wrong = []wrongFlag{
	{"listen", "BERTH_LISTEN", "127.0.0.1:70000"},
	{"tls", "BERTH_TLS", "yes"},
	{"tls-cert", "BERTH_TLS_CERT", "/nowhere/cert.pem"},
	{"tls-key", "BERTH_TLS_KEY", "/nowhere/key.pem"},
	{"key-file", "BERTH_KEY_FILE", "a key in place of\nits file"},
	{"session-idle", "BERTH_SESSION_IDLE", "3h"},
	{"session-max", "BERTH_SESSION_MAX", "for ever"},
	{"token-idle", "BERTH_TOKEN_IDLE", "0"},
	{"max-nodes", "BERTH_MAX_NODES", "many"},
	{"database", "BERTH_DATABASE", "mysql://db.lan/berth"},
	{"redis", "BERTH_REDIS", "http://redis.lan"},
	{"start-timeout", "BERTH_START_TIMEOUT", "2h"},
	{"login-hosts", "BERTH_LOGIN_HOSTS", "pve.lan:0"},
	{"allow-networks", "BERTH_ALLOW_NETWORKS", "192.168.1.0/40"},
	{"ca-file", "BERTH_CA_FILE", "/nowhere/ca.pem"},
	{"public-url", "BERTH_PUBLIC_URL", "berth.example.org"},
	{"hosts", "BERTH_HOSTS", "a/b"},
	{"base-path", "BERTH_BASE_PATH", "berth"},
	{"trusted-proxies", "BERTH_TRUSTED_PROXIES", "proxy.lan"},
	{"metrics-listen", "BERTH_METRICS_LISTEN", "9100"},
	{"traces-endpoint", "BERTH_TRACES_ENDPOINT", "collector.lan:4318"},
	{"traces-headers-file", "BERTH_TRACES_HEADERS_FILE", "/nowhere/headers"},
	{"audit-days", "BERTH_AUDIT_DAYS", "0"},
	{"log-format", "BERTH_LOG_FORMAT", "xml"},
	{"log-level", "BERTH_LOG_LEVEL", "loud"},
}

// wrongFiles say in a file what a flag in wrong says.
var wrongFiles = []wrongFlag{
	{"database-file", "BERTH_DATABASE_FILE", "/nowhere/database"},
	{"redis-file", "BERTH_REDIS_FILE", "/nowhere/redis"},
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	inFiles := slices.Concat(wrongFiles, slices.DeleteFunc(slices.Clone(wrong), func(w wrongFlag) bool {
		return slices.ContainsFunc(wrongFiles, func(f wrongFlag) bool { return f.flag == w.flag+"-file" })
	}))
	for name, all := range map[string][]wrongFlag{
		"all": wrong, "with secrets in files": inFiles,
		"a certificate without its key": {{"tls-cert", "BERTH_TLS_CERT", "/nowhere/cert.pem"}},
		"a key without its certificate": {{"tls-key", "BERTH_TLS_KEY", "/nowhere/key.pem"}},
	} {
		var args, env []string
		for _, w := range all {
			args = append(args, "--"+w.flag, w.value)
			env = append(env, w.variable+"="+w.value)
		}
		for as, said := range map[string]string{
			name + ", as flags":     refused(t, nil, append([]string{"serve"}, args...)...),
			name + ", as variables": refused(t, env, "serve"),
		} {
			lines := strings.Split(strings.TrimSpace(said), "\n")
			for _, w := range all {
				found := 0
				for _, line := range lines {
					if strings.HasPrefix(line, "berth: --"+w.flag+" ("+w.variable+"): ") {
						found++
					}
				}
				if found == 0 {
					t.Errorf("%s: nothing is said about --%s %s\n%s", as, w.flag, w.value, said)
				}
			}
			for _, line := range lines {
				if !regexp.MustCompile(`^berth: --[a-z-]+ \(BERTH_[A-Z_]+\): .`).MatchString(line) {
					t.Errorf("%s: %q names no flag and variable", as, line)
				}
			}
		}
	}

	// A flag that comes later needs a line above.
	model, err := kong.New(&serveCommand{})
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range model.Model.Flags {
		tried := slices.ContainsFunc(slices.Concat(wrong, wrongFiles), func(w wrongFlag) bool {
			return w.flag == flag.Name && slices.Contains(flag.Envs, w.variable)
		})
		// Whether a folder can be used shows when it is.
		if !tried && flag.Name != "help" && flag.Name != "data" {
			t.Errorf("--%s is tried with nothing that it can't be", flag.Name)
		}
	}
}

func TestProblemsOfDemoAndSim(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env, args []string
		want      []string
	}{
		{nil, []string{"demo", "--hosts", "0", "--containers", "many", "--listen", "8080"}, []string{
			"--hosts (BERTH_DEMO_HOSTS): ", "--containers (BERTH_CONTAINERS): ", "--listen (BERTH_LISTEN): "}},
		{[]string{"BERTH_DEMO_HOSTS=1000", "BERTH_LOG_LEVEL=x"}, []string{"demo"}, []string{"--hosts (BERTH_DEMO_HOSTS): ", "--log-level (BERTH_LOG_LEVEL): "}},
		{nil, []string{"sim", "--fault", "latency=soon", "--fault", "explode", "--containers=-1"}, []string{
			`--fault (BERTH_FAULT): fault "latency=soon": `, `--fault (BERTH_FAULT): fault "explode": `, "--containers (BERTH_CONTAINERS): "}},
	} {
		said := refused(t, test.env, test.args...)
		for _, want := range test.want {
			if !strings.Contains(said, "berth: "+want) {
				t.Errorf("%v: said %q, want %q", test.args, said, want)
			}
		}
		if n := strings.Count(said, "\n"); n != len(test.want) {
			t.Errorf("%v: said %d lines, want %d\n%s", test.args, n, len(test.want), said)
		}
	}
}

// A value that begins with "-" is a value: it is told beside all other problems.
func TestNegativeValues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want []string }{
		{[]string{"serve", "--audit-days", "-1", "--session-idle", "-3h", "--log-level", "-x"}, []string{
			"--audit-days (BERTH_AUDIT_DAYS): ", "--session-idle (BERTH_SESSION_IDLE): ", "--log-level (BERTH_LOG_LEVEL): "}},
		{[]string{"sim", "--containers", "-3", "--listen", "8006"}, []string{"--containers (BERTH_CONTAINERS): ", "--listen (BERTH_LISTEN): "}},
		{[]string{"demo", "--hosts", "-2", "--containers", "-.5"}, []string{"--hosts (BERTH_DEMO_HOSTS): ", "--containers (BERTH_CONTAINERS): "}},
	} {
		said := refused(t, nil, test.args...)
		for _, want := range test.want {
			if !strings.Contains(said, "berth: "+want) {
				t.Errorf("%v: said %q, want %q", test.args, said, want)
			}
		}
		if n := strings.Count(said, "\n"); n != len(test.want) {
			t.Errorf("%v: said %d lines, want %d\n%s", test.args, n, len(test.want), said)
		}
	}
}

// What people and scripts can rely on who give no flags.
func TestDefaults(t *testing.T) {
	t.Parallel()
	for verb, want := range map[string]map[string]string{
		"demo":  {"listen": "127.0.0.1:8080", "hosts": "2", "data": ""},
		"serve": {"listen": "127.0.0.1:8080", "log-format": "text", "log-level": "info", "login-hosts": "claim", "tls": "", "session-idle": "2h", "session-max": "168h"},
		"sim":   {"listen": "127.0.0.1:8006"},
	} {
		var flags commands
		parser, err := kong.New(&flags, kong.Vars{"version": ""}, kong.ExplicitGroups([]kong.Group{{Key: "remote"}}))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.Parse([]string{verb})
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range want {
			found := slices.IndexFunc(parsed.Selected().Flags, func(f *kong.Flag) bool { return f.Name == name })
			if found < 0 {
				t.Errorf("berth %s has no --%s", verb, name)
			} else if got := parsed.FlagValue(parsed.Selected().Flags[found]); got != value {
				t.Errorf("berth %s --%s is %v by default, want %q", verb, name, got, value)
			}
		}
	}
}

func TestUnknownFlagsAndCommands(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want []string }{
		{[]string{"serve", "--nonsense"}, []string{"unknown flag --nonsense", "(see berth serve --help)"}},
		{[]string{"serve", "--audit-day", "-1"}, []string{"unknown flag --audit-day", `"--audit-days"`, "(see berth serve --help)"}},
		{[]string{"serve", "extra"}, []string{"unexpected argument extra", "(see berth serve --help)"}},
		{[]string{"nonsense"}, []string{"unexpected argument nonsense", "(see berth --help)"}},
		{[]string{"hosts"}, []string{`"list", "add", "repin", "remove"`, "(see berth hosts --help)"}},
		{[]string{"serve", "--audit-days"}, []string{"--audit-days (BERTH_AUDIT_DAYS): a value is missing"}},
		{[]string{"serve", "--tls-cert", "--tls-key", "key.pem"}, []string{"--tls-cert (BERTH_TLS_CERT): a value is missing"}},
		{[]string{"hosts", "add", "pve.lan", "--joins"}, []string{"--joins: a value is missing"}},
	} {
		if said := misused(t, nil, test.args...); !oneSentence(said, test.want...) {
			t.Errorf("%v: said %q, want one sentence with %q", test.args, said, test.want)
		}
	}
}

// Whoever types the name alone learns what there is; --version is the verb.
func TestNameAloneAndVersion(t *testing.T) {
	t.Parallel()
	if help := start(t, nil).finished(); help != start(t, nil, "--help").finished() || !strings.Contains(help, "Try Berth with simulated Proxmox hosts") {
		t.Errorf("alone it says %q", help)
	}
	if told := start(t, nil, "--version").finished(); told != "berth "+testVersion+"\n" || told != start(t, nil, "version").finished() {
		t.Errorf("--version says %q", told)
	}
}

// Help names every flag with its variable and, if it has one, its default.
func TestHelp(t *testing.T) {
	t.Parallel()
	model, err := kong.New(&commands{}, kong.Name("berth"))
	if err != nil {
		t.Fatal(err)
	}
	space, flagBegins := regexp.MustCompile(`\s+`), regexp.MustCompile(` --[a-z-]+=`)
	checked := 0
	for _, command := range model.Model.Leaves(true) {
		p := start(t, nil, append(strings.Fields(command.Path()), "--help")...)
		if code := p.end(); code != 0 || p.err.String() != "" {
			t.Errorf("%s --help: status %d, stderr %q", command.Path(), code, p.err)
		}
		help := space.ReplaceAllString(p.out.String(), " ")
		for _, flag := range command.Flags {
			if flag.Name == "help" {
				continue
			}
			form := " --" + flag.Name + "="
			if flag.Tag.Negatable != "" {
				form = " --[no-]" + flag.Name + " "
			}
			_, text, found := strings.Cut(help, form)
			text = flagBegins.Split(text, 2)[0]
			for _, variable := range flag.Envs {
				if !found || !strings.Contains(text, "$"+variable) {
					t.Errorf("%s --help: --%s does not name %s: %q", command.Path(), flag.Name, variable, text)
				}
			}
			if flag.HasDefault && !strings.Contains(text, "Default: ") {
				t.Errorf("%s --help: --%s does not tell its default, %q: %q", command.Path(), flag.Name, flag.Default, text)
			}
			checked++
		}
	}
	if checked < 20 {
		t.Errorf("only %d flags were looked at", checked)
	}
	if p := start(t, nil, "serve", "--help"); p.end() != 0 || !strings.Contains(space.ReplaceAllString(p.out.String(), " "), "Address to serve on. Default: 127.0.0.1:8080 ($BERTH_LISTEN)") {
		t.Errorf("serve --help: %s", p.out)
	}
}
