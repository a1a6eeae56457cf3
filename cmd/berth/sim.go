package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"berth/internal/config"
	"berth/internal/pve/sim"
)

type simCommand struct {
	config.Sim `embed:""`
}

// Run simulates a Proxmox VE host until the program is told to end.
func (c *simCommand) Run(ctx context.Context, stdout io.Writer) error {
	settings, err := c.Check(func(fault string) error {
		_, _, _, err := sim.ParseFault(fault)
		return err
	})
	if err != nil {
		return err
	}
	setLog(settings.Log, os.Stderr)
	dc, err := sim.New(sim.Options{Containers: settings.Containers})
	if err != nil {
		return err
	}
	host, err := dc.Listen("", settings.Listen)
	if err != nil {
		var call *os.SyscallError
		if errors.As(err, &call) {
			err = call.Err
		}
		return fmt.Errorf("cannot listen on %s: %w", settings.Listen, err)
	}
	for _, text := range c.Fault {
		method, path, fault, err := sim.ParseFault(text)
		if err != nil {
			return err
		}
		host.SetFault(method, path, fault)
	}
	_, err = fmt.Fprintf(stdout, "Simulated Proxmox VE host %s\n  certificate  %s\n  users        root@pam, alice@pve, bob@pve (TOTP secret %s), carol@pve (disabled), dave@pve (expired)\n  password     %s\n",
		host.URL(), host.Fingerprint(), sim.DefaultTOTPSecret, sim.DefaultPassword)
	if err != nil {
		return err
	}
	<-ctx.Done()
	slog.Info("simulated host ends")
	return host.Close()
}
