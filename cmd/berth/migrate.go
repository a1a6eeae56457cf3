package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"berth/internal/app"
	"berth/internal/config"
)

type migrateCommand struct {
	config.Migrate `embed:""`
}

// Run moves an installation from one database to another one.
func (c *migrateCommand) Run(ctx context.Context, stdout io.Writer) error {
	from, to, err := c.Check()
	if err != nil {
		return err
	}
	table, copied := "", int64(0)
	moved, err := app.Migrate(ctx, from, to, func(name string, rows int64) {
		if name != table {
			table, copied = name, 0
		}
		copied += rows
		fmt.Fprintf(stdout, "%s: %d rows copied\n", table, copied)
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "\nBoth databases hold the same:")
	list := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(list, "TABLE\tROWS\tCHECKSUM (SHA-256)")
	for _, m := range moved {
		fmt.Fprintf(list, "%s\t%d\t%s\n", m.Table, m.Rows, m.Checksum)
	}
	if err := list.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "\nSecrets were copied as they are, sealed: Berth needs the key file of before. The old database stays as it was; serve it no more.")
	return err
}
