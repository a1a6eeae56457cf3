package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"berth/internal/app"
	"berth/internal/config"
)

type keysCommand struct {
	List   keysList   `cmd:"" help:"List the keys."`
	Rotate keysRotate `cmd:"" help:"Replace the key by a new one and seal everything anew. Berth may be running; it notices by itself. An interrupted rotation is brought to its end."`
}

type keysList struct {
	config.Installation `embed:""`
	JSON                bool `name:"json" help:"Print JSON."`
}

// The states of a listed key.
const (
	keyInUse    = "in use"
	keyNew      = "new"      // a rotation was interrupted before it came in use
	keyReplaced = "replaced" // a rotation was interrupted before it was retired
)

// listedKey is a key in the output of keys list --json.
type listedKey struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

// Run lists the keys.
func (c *keysList) Run(ctx context.Context, stdout io.Writer) error {
	return operate(ctx, c.Installation, func(o *app.Operator) error {
		keys, err := o.Keys()
		if err != nil {
			return err
		}
		list := make([]listedKey, 0, len(keys))
		for i, k := range keys {
			state := keyReplaced
			switch {
			case k.InUse:
				state = keyInUse
			case i == len(keys)-1:
				state = keyNew
			}
			list = append(list, listedKey{k.ID, state})
		}
		if c.JSON {
			return printJSON(stdout, list)
		}
		meaning := map[string]string{
			keyInUse: "in use", keyNew: "new, not in use yet: run berth keys rotate again",
			keyReplaced: "replaced, not retired yet: run berth keys rotate again",
		}
		table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "KEY\tSTATE")
		for _, k := range list {
			fmt.Fprintf(table, "%s\t%s\n", k.ID, meaning[k.State])
		}
		return table.Flush()
	})
}

type keysRotate struct {
	config.Installation `embed:""`
}

// Run rotates the key.
func (c *keysRotate) Run(ctx context.Context, stdout io.Writer) error {
	return operate(ctx, c.Installation, func(o *app.Operator) error {
		r, err := o.RotateKey(ctx)
		if err != nil {
			return err
		}
		var b strings.Builder
		if r.Resumed {
			b.WriteString("An earlier rotation was brought to its end.\n")
		}
		fmt.Fprintf(&b, "Key %s is in use. %d sealed anew; retired: %s.\n", r.Key, r.Resealed, strings.Join(r.Retired, ", "))
		if r.Unreadable > 0 {
			fmt.Fprintf(&b, "%d did not open with any key and stayed as they were: whoever these sessions belong to has to sign in again.\n", r.Unreadable)
		}
		b.WriteString("Copies of the database from before open only with a copy of the key file from before.\n")
		_, err = io.WriteString(stdout, b.String())
		return err
	})
}
