package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"berth/internal/app"
	"berth/internal/bench"
	"berth/internal/config"
)

// benchCommand measures this program; see internal/bench. The commands below it are the processes that it starts.
type benchCommand struct {
	Run       benchRunCommand       `cmd:"" default:"withargs" help:"Measure this program beside references, on this machine."`
	Fleet     benchFleetCommand     `cmd:"" hidden:""`
	Berth     benchBerthCommand     `cmd:"" hidden:""`
	Reference benchReferenceCommand `cmd:"" hidden:""`
}

type benchRunCommand struct {
	Short    bool     `help:"Measure the ratios alone, in less than a minute, and fail if one is below half of what is stated."`
	Redis    string   `placeholder:"URL" help:"Redis to measure with too. What is in it is added to."`
	Case     []string `placeholder:"NAME" help:"What to measure: ratios, rest, signin, fleet, streams, growth. Default: all."`
	JSON     string   `name:"json" placeholder:"FILE" help:"File to write the figures to as JSON."`
	Write    string   `placeholder:"FOLDER" help:"Folder of the documentation, in which performance.md and the curves are to be written."`
	Profiles string   `placeholder:"FOLDER" hidden:"" help:"Folder for profiles of Berth under load."`
}

// Run measures.
func (c *benchRunCommand) Run(ctx context.Context, stdout io.Writer) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	report, err := bench.Run(ctx, bench.Options{
		Executable: executable, Version: programVersion(), Redis: c.Redis, Short: c.Short, Cases: c.Case, Profiles: c.Profiles, Progress: os.Stderr,
	})
	if err != nil {
		return err
	}
	if err := report.Text(stdout); err != nil {
		return err
	}
	if c.JSON != "" {
		if err := writeJSON(c.JSON, report); err != nil {
			return err
		}
	}
	if c.Write != "" {
		if err := report.Document(c.Write); err != nil {
			return err
		}
	}
	if far := report.Far(); c.Short && len(far) > 0 {
		return fmt.Errorf("far from what is stated:\n  %s", strings.Join(far, "\n  "))
	}
	return nil
}

func writeJSON(name string, report *bench.Report) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return report.JSON(f)
}

type benchFleetCommand struct {
	Hosts      int `default:"1"`
	Containers int `default:"100"`
}

// Run simulates Proxmox VE hosts.
func (c *benchFleetCommand) Run(ctx context.Context, stdout io.Writer) error {
	return bench.Fleet(bench.UntilClosed(ctx), stdout, c.Hosts, c.Containers)
}

type benchReferenceCommand struct{}

// Run serves what Berth is compared with.
func (benchReferenceCommand) Run(ctx context.Context, stdout io.Writer) error {
	return bench.Reference(bench.UntilClosed(ctx), stdout)
}

type benchBerthCommand struct {
	config.Serve `embed:""`
}

// Run serves as `berth serve` does, with a control beside it.
func (c *benchBerthCommand) Run(ctx context.Context, stdout io.Writer) error {
	settings, err := c.Check()
	if err != nil {
		return err
	}
	setLog(settings.Log, os.Stderr)
	control, err := bench.NewControl()
	if err != nil {
		return err
	}
	a, err := app.New(ctx, settings, app.WithVersion(programVersion()), app.WithClock(control.Now))
	if err != nil {
		return err
	}
	go func() { _ = control.Serve() }() // it ends with the program
	if err := bench.TellSite(stdout, a.Address(), control); err != nil {
		return errors.Join(err, a.Close())
	}
	return errors.Join(a.Run(bench.UntilClosed(ctx)), a.Close())
}
