// Command berth is a self-hosted web dashboard for the LXC containers on Proxmox VE hosts. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"berth/internal/config"
	"berth/internal/fault"
)

// version is set by the release build; other builds tell what the Go tool knows.
var version = ""

type commands struct {
	Demo  demoCommand  `cmd:"" help:"Try Berth with simulated Proxmox hosts; nothing else is needed."`
	Serve serveCommand `cmd:"" help:"Serve the dashboard."`
	Sim   simCommand   `cmd:"" help:"Run one simulated Proxmox host on its own."`
	Hosts hostsCommand `cmd:"" help:"List, add, re-pin and remove the hosts that people may sign in with."`
	Keys  keysCommand  `cmd:"" help:"List and rotate the keys that secrets are sealed with."`
	Bench benchCommand `cmd:"" hidden:"" help:"Measure this program."`

	Migrate migrateCommand `cmd:"" help:"Move an installation from SQLite to PostgreSQL, or back. No Berth may use the two databases meanwhile; an interrupted move goes on when it is run again."`

	Login    loginCommand    `cmd:"" group:"remote" help:"Sign in to a Berth, for the commands below."`
	Logout   logoutCommand   `cmd:"" group:"remote" help:"Sign out."`
	Ls       lsCommand       `cmd:"" group:"remote" help:"List containers."`
	Start    startCommand    `cmd:"" group:"remote" help:"Start containers."`
	Stop     stopCommand     `cmd:"" group:"remote" help:"Stop containers at once."`
	Shutdown shutdownCommand `cmd:"" group:"remote" help:"Shut containers down."`
	Reboot   rebootCommand   `cmd:"" group:"remote" help:"Reboot containers."`
	Logs     logsCommand     `cmd:"" group:"remote" help:"Print the log of a task."`

	Completion completionCommand `cmd:"" help:"Print the completion for a shell."`
	Version    versionCommand    `cmd:"" help:"Tell which version this is."`

	// TellVersion is what people try who know other programs.
	TellVersion kong.VersionFlag `name:"version" help:"Tell which version this is."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the program at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without the process around it. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exited := -1
	parser, err := kong.New(&commands{},
		kong.Name("berth"),
		kong.Description("A dashboard for the LXC containers on your Proxmox VE hosts. You sign in with your own Proxmox account. "+statusHelp),
		kong.UsageOnError(),
		kong.ValueFormatter(helpText),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(stdout, (*io.Writer)(nil)),
		kong.Vars{"version": "berth " + programVersion()},
		kong.ExplicitGroups([]kong.Group{{Key: "remote", Title: "With a Berth, here or elsewhere:"}}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "berth:", err)
		return 1
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	if args, err = tieValues(parser.Model, args); err != nil {
		return fail(stderr, usageError{err})
	}
	command, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help, --version
	}
	if err != nil {
		return fail(stderr, usageError{notUnderstood(err)})
	}
	if err := command.Run(); err != nil {
		return fail(stderr, err)
	}
	return statusOK
}

// fail tells what went wrong, a line for each problem that was not told before, and returns the exit status.
func fail(stderr io.Writer, err error) int {
	if many := (manyErrors)(nil); errors.As(err, &many) {
		return statusOf(err)
	}
	var problems config.Problems
	if !errors.As(err, &problems) {
		problems = config.Problems{describe(err)}
	}
	for _, p := range problems {
		fmt.Fprintln(stderr, "berth:", p)
	}
	return statusOf(err)
}

// helpText is what --help says of a flag: its meaning, its default and its variables.
func helpText(v *kong.Value) string {
	told := *v
	if v.HasDefault && !strings.Contains(v.Help, "Default:") {
		told.Help = strings.TrimSuffix(v.Help, ".") + ". Default: " + v.Default + "."
	}
	return kong.DefaultHelpValueFormatter(&told)
}

// setLog makes the log that the settings ask for the program's log.
func setLog(s config.LogSettings, w io.Writer) {
	options := &slog.HandlerOptions{Level: s.Level}
	var h slog.Handler = slog.NewTextHandler(w, options)
	if s.JSON {
		h = slog.NewJSONHandler(w, options)
	}
	slog.SetDefault(slog.New(requestLog{h}))
	log.SetFlags(0)
	log.SetOutput(standardLog{})
}

// requestLog adds the id of the request to what is logged while it is served.
type requestLog struct{ slog.Handler }

// Handle implements slog.Handler.
func (h requestLog) Handle(ctx context.Context, r slog.Record) error {
	if id := fault.RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h requestLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestLog{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h requestLog) WithGroup(name string) slog.Handler { return requestLog{h.Handler.WithGroup(name)} }

// standardLog is where package log writes. Berth itself doesn't use it; net/http does, and quotes there what a host sends
// unasked on an idle connection, which may be a password that it was told. So the texts are left out, all of them: which
// ones are harmless is not for sure.
type standardLog struct{}

func (standardLog) Write(text []byte) (int, error) {
	slog.Debug("left out what a library logged: it may quote a host", "bytes", len(text))
	return len(text), nil
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(stdout io.Writer) error {
	_, err := fmt.Fprintln(stdout, "berth", programVersion())
	return err
}

func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
