package main

import (
	"context"
	"errors"
	"io"
	"os"

	"berth/internal/app"
	"berth/internal/config"
	"berth/internal/pve"
)

type demoCommand struct {
	config.Demo `embed:""`
}

// Run serves Berth beside simulated hosts until the program is told to end.
func (c *demoCommand) Run(ctx context.Context, stdout io.Writer) (err error) {
	if c.Data == "" {
		folder, remove, err := app.TemporaryFolder()
		if err != nil {
			return err
		}
		defer remove()
		c.Data = folder
	}
	settings, err := c.Check()
	if err != nil {
		return err
	}
	setLog(settings.Log, os.Stderr)
	d, err := app.NewDemo(ctx, app.DemoOptions{
		Settings: settings.Settings, Hosts: settings.Hosts, Containers: settings.Containers, FirstPort: pve.DefaultPort,
	}, app.WithVersion(programVersion()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Describe(stdout); err != nil {
		return err
	}
	return d.Run(ctx)
}
