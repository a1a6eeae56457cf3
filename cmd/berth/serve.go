package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"berth/internal/app"
	"berth/internal/config"
)

type serveCommand struct {
	config.Serve `embed:""`
}

// Run serves until the program is told to end.
func (c *serveCommand) Run(ctx context.Context, stdout io.Writer) (err error) {
	settings, err := c.Check()
	if err != nil {
		return err
	}
	setLog(settings.Log, os.Stderr)
	a, err := app.New(ctx, settings, app.WithVersion(programVersion()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	slog.InfoContext(ctx, "Berth is ready", "url", a.URL(), "data", settings.Data, "version", programVersion())
	if a.Fingerprint != "" {
		slog.InfoContext(ctx, "certificate made by Berth itself: compare its SHA-256 fingerprint in the browser", "fingerprint", a.Fingerprint)
	}
	// Whoever ends the program at this moment ends it as at any other.
	asking := context.WithoutCancel(ctx)
	code, err := a.ClaimCode(asking)
	if err != nil {
		return err
	}
	if code != "" {
		always, err := a.AsksClaimCode(asking)
		if err != nil {
			return err
		}
		exception := ""
		if !always {
			exception = "A browser on this machine that comes through no proxy needs none.\n\n"
		}
		// For the operator's eyes, and not through the log, which may be collected elsewhere.
		_, err = fmt.Fprintf(stdout, "Nobody has signed in to this Berth yet. The first sign-in decides whose it is, and needs the claim code\n\n  %s\n\n%s", code, exception)
		if err != nil {
			return err
		}
	}
	return a.Run(ctx)
}
