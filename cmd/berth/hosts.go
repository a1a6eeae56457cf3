package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"berth/internal/app"
	"berth/internal/auth"
	"berth/internal/config"
	"berth/internal/pve"
)

type hostsCommand struct {
	List   hostsList   `cmd:"" help:"List the login hosts."`
	Add    hostsAdd    `cmd:"" help:"Let people sign in with one more host."`
	Repin  hostsRepin  `cmd:"" help:"Accept the changed certificate of a login host."`
	Remove hostsRemove `cmd:"" help:"Remove a login host; the sessions there end."`
}

// find is the login host at an address; it is nobody else's to be asked about.
func find(ctx context.Context, o *app.Operator, at pve.Address) (auth.LoginHost, error) {
	hosts, _, err := o.Hosts(ctx)
	if err != nil {
		return auth.LoginHost{}, err
	}
	for _, h := range hosts {
		if h.Address == at {
			return h, nil
		}
	}
	return auth.LoginHost{}, fmt.Errorf("%s: %w", at, auth.ErrNoHost)
}

// operate runs one command on an installation.
func operate(ctx context.Context, flags interface {
	Check() (config.Settings, error)
}, run func(*app.Operator) error) error {
	settings, err := flags.Check()
	if err != nil {
		return err
	}
	o, err := app.Operate(ctx, settings)
	if err != nil {
		return err
	}
	return errors.Join(run(o), o.Close())
}

type hostsList struct {
	config.Operator `embed:""`
	JSON            bool `name:"json" help:"Print JSON."`
}

// listedHost is a login host in the output of hosts list --json.
type listedHost struct {
	Address     string    `json:"address"`
	Datacenter  string    `json:"datacenter"`
	Owner       bool      `json:"owner"`
	Pinned      bool      `json:"pinned"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
}

// Run prints the login hosts.
func (c *hostsList) Run(ctx context.Context, stdout io.Writer) error {
	return operate(ctx, c.Operator, func(o *app.Operator) error {
		hosts, claimedBy, err := o.Hosts(ctx)
		if err != nil {
			return err
		}
		list := make([]listedHost, 0, len(hosts))
		for _, h := range hosts {
			list = append(list, listedHost{
				Address: h.Address.String(), Datacenter: h.Datacenter, Owner: h.Datacenter == claimedBy,
				Pinned: h.Key != nil, Fingerprint: h.Fingerprint.String(), Created: h.Created,
			})
		}
		if c.JSON {
			return printJSON(stdout, list)
		}
		if len(list) == 0 {
			_, err := fmt.Fprintln(stdout, "There is no login host yet: the first sign-in makes one, or berth hosts add.")
			return err
		}
		table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ADDRESS\tDATACENTER\tOWNER\tTRUST\tCERTIFICATE (SHA-256)")
		for _, h := range list {
			owner, trust := "", "authorities"
			if h.Owner {
				owner = "yes"
			}
			if h.Pinned {
				trust = "pinned"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", h.Address, h.Datacenter, owner, trust, h.Fingerprint)
		}
		return table.Flush()
	})
}

// printJSON prints a list for programs.
func printJSON(stdout io.Writer, list any) error {
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(list)
}

type hostsAdd struct {
	config.Operator `embed:""`
	Address         string `arg:"" help:"Name or address, with its port if that is not 8006."`
	Joins           string `placeholder:"ADDRESS" help:"Login host of the Proxmox installation that it belongs to. Default: it is an installation of its own."`
	Fingerprint     string `placeholder:"SHA256" help:"Fingerprint of its certificate, instead of being asked."`
}

// Run adds a login host.
func (c *hostsAdd) Run(ctx context.Context, stdout io.Writer) error {
	at, err := pve.ParseAddress(c.Address, 0)
	if err != nil {
		return err
	}
	var joins *pve.Address
	if c.Joins != "" {
		other, err := pve.ParseAddress(c.Joins, 0)
		if err != nil {
			return fmt.Errorf("--joins: %w", err)
		}
		joins = &other
	}
	return operate(ctx, c.Operator, func(o *app.Operator) error {
		if _, err := find(ctx, o, at); !errors.Is(err, auth.ErrNoHost) {
			if err == nil {
				err = fmt.Errorf("%s: %w", at, auth.ErrHostKnown)
			}
			return err
		}
		peer, trusted, err := o.Presented(ctx, at)
		if err != nil {
			return notLookedAt(at, err)
		}
		var confirmed *pve.Fingerprint
		if !trusted || c.Fingerprint != "" {
			fmt.Fprintf(stdout, "%s presents the certificate\n  %s\n", at, peer.Fingerprint)
			f, err := confirm(stdout, peer.Fingerprint, c.Fingerprint)
			if err != nil {
				return err
			}
			confirmed = &f
		}
		if err := o.AddHost(ctx, at, confirmed, joins); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "People can sign in with %s now.\n", at)
		return err
	})
}

type hostsRepin struct {
	config.Operator `embed:""`
	Address         string `arg:"" help:"Name or address, with its port if that is not 8006."`
	Fingerprint     string `placeholder:"SHA256" help:"Fingerprint of its new certificate, instead of being asked."`
}

// Run pins a login host anew.
func (c *hostsRepin) Run(ctx context.Context, stdout io.Writer) error {
	at, err := pve.ParseAddress(c.Address, 0)
	if err != nil {
		return err
	}
	return operate(ctx, c.Operator, func(o *app.Operator) error {
		known, err := find(ctx, o, at)
		if err != nil {
			return err
		}
		peer, _, err := o.Presented(ctx, at)
		if err != nil {
			return notLookedAt(at, err)
		}
		if known.Key != nil && peer.Fingerprint == known.Fingerprint {
			_, err := fmt.Fprintf(stdout, "%s presents the certificate that it is known by, so there is nothing to change:\n  %s\n", at, known.Fingerprint)
			return err
		}
		fmt.Fprintf(stdout, "%s is known by the certificate\n  %s\n", at, known.Fingerprint)
		fmt.Fprintf(stdout, "%s presents now\n  %s\n", at, peer.Fingerprint)
		confirmed, err := confirm(stdout, peer.Fingerprint, c.Fingerprint)
		if err != nil {
			return err
		}
		if err := o.RepinHost(ctx, at, confirmed); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "%s is pinned to the new certificate's key.\n", at)
		return err
	})
}

type hostsRemove struct {
	config.Operator `embed:""`
	Address         string `arg:"" help:"Name or address, with its port if that is not 8006."`
	Yes             bool   `help:"Do not ask."`
}

// Run removes a login host.
func (c *hostsRemove) Run(ctx context.Context, stdout io.Writer) error {
	at, err := pve.ParseAddress(c.Address, 0)
	if err != nil {
		return err
	}
	return operate(ctx, c.Operator, func(o *app.Operator) error {
		if _, err := find(ctx, o, at); err != nil {
			return err
		}
		if !c.Yes {
			if err := ask(stdout, fmt.Sprintf("Remove %s and end the sessions there? Nothing on the host changes.", at)); err != nil {
				return err
			}
		}
		if err := o.RemoveHost(ctx, at); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "%s is no login host any more.\n", at)
		return err
	})
}

// notLookedAt says in one sentence why the certificate of a host is not known.
func notLookedAt(at pve.Address, err error) error {
	var (
		forbidden *pve.AddressError
		lookup    *net.DNSError
		call      *os.SyscallError
		failed    *pve.Error
	)
	switch {
	case errors.As(err, &forbidden):
		return fmt.Errorf("%s is not contacted: %w", at, forbidden)
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return fmt.Errorf("%s is not contacted: no name server knows %s", at, at.Host)
	case errors.As(err, &lookup):
		return fmt.Errorf("%s is not contacted: the name servers do not answer", at)
	case errors.As(err, &call):
		return fmt.Errorf("%s does not answer: %w", at, call.Err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s does not answer in time", at)
	case pve.IsKind(err, pve.KindNotProxmox):
		return fmt.Errorf("%s answers, but not as a Proxmox VE host does", at)
	case errors.As(err, &failed) && failed.Kind == pve.KindHostUnreachable && failed.Cause != nil:
		return fmt.Errorf("%s does not answer: %w", at, failed.Cause)
	}
	return err
}

// confirm has the operator compare a presented fingerprint, or compares it with the given one.
func confirm(stdout io.Writer, presented pve.Fingerprint, given string) (pve.Fingerprint, error) {
	if given == "" {
		return presented, ask(stdout, "Is that what the host itself shows (pvenode cert info)?")
	}
	f, err := pve.ParseFingerprint(given)
	if err != nil {
		return f, fmt.Errorf("--fingerprint: %w", err)
	}
	if f != presented {
		return f, errors.New("--fingerprint: the host presents another certificate")
	}
	return f, nil
}

var errNotConfirmed = errors.New("not confirmed, so nothing was changed (scripts use --fingerprint or --yes)")

// ask asks a question that only yes answers.
func ask(stdout io.Writer, question string) error {
	fmt.Fprintf(stdout, "%s [y/N] ", question)
	answer, err := bufio.NewReader(io.LimitReader(os.Stdin, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}
