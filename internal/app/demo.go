package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"berth/internal/auth"
	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/pve/sim"
)

// demoAddress is where all simulated hosts of a demo listen.
const demoAddress = "127.0.0.1"

// DemoOptions are the settings of a demo.
type DemoOptions struct {
	Settings config.Settings
	// Hosts is how many simulated datacenters there are; Containers how many containers each has, 0 for a small fixed set.
	Hosts, Containers int
	// FirstPort is where the first simulated host listens, the others on the ports behind it; 0 chooses free ones.
	FirstPort int
	Now       func() time.Time
}

// Demo is Berth beside simulated Proxmox hosts, in one process. Nothing in Berth itself is simulated: it signs in, pins
// and reads over TLS as it does everywhere.
type Demo struct {
	App   *App
	Hosts []DemoHost
	now   func() time.Time
}

// DemoHost is one simulated datacenter of a demo, with the member that people sign in with.
type DemoHost struct {
	Name       string
	Datacenter *sim.Datacenter
	Host       *sim.Host
}

// NewDemo starts the simulated hosts, makes them known to Berth and pins them, and makes Berth.
func NewDemo(ctx context.Context, o DemoOptions, opts ...Option) (*Demo, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Demo{now: o.Now}
	done := false
	defer func() {
		if !done {
			_ = d.Close() // the first error is the one to tell
		}
	}()
	if err := d.startHosts(o); err != nil {
		return nil, err
	}
	first, err := addressOf(d.Hosts[0].Host)
	if err != nil {
		return nil, err
	}
	opts = append([]Option{WithSuggestion(first.Host, fmt.Sprint(first.Port))}, opts...)
	if d.App, err = New(ctx, o.Settings, opts...); err != nil {
		return nil, err
	}
	if err := d.know(ctx); err != nil {
		return nil, err
	}
	done = true
	return d, nil
}

// know makes the hosts known and pinned. In a folder of an earlier demo each takes the place of a host of then, wherever
// that listened: people keep what is theirs, and no host stays listed that is gone.
func (d *Demo) know(ctx context.Context) error {
	earlier, err := d.earlier(ctx)
	if err != nil {
		return err
	}
	addresses := make([]pve.Address, len(d.Hosts))
	for i, h := range d.Hosts {
		if addresses[i], err = addressOf(h.Host); err != nil {
			return err
		}
	}
	places, gone := takePlaces(addresses, earlier)
	for i, h := range d.Hosts {
		at := addresses[i]
		shown, err := pve.ParseFingerprint(h.Host.Fingerprint())
		if err != nil {
			return err
		}
		if place := places[i]; place.Address != at && place.ID != "" {
			peer, err := d.App.client.Host(at, pve.Trust{Certificate: &shown}).Handshake(ctx)
			if err != nil {
				return fmt.Errorf("look at the certificate of %s: %w", at, err)
			}
			if err := d.App.hosts.Add(ctx, at, &peer.Key, peer.Fingerprint, place.Datacenter); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			gone = append(gone, place)
			continue
		}
		known, err := d.App.KnowHost(ctx, at, shown)
		if err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		// The first datacenter has the installation, so that its root@pam can try what owners do.
		if err := d.App.hosts.ClaimFor(ctx, known.Datacenter); err != nil && !errors.Is(err, auth.ErrClaimed) {
			return err
		}
	}
	for _, host := range gone {
		if err := d.App.store.RemoveHost(ctx, host.ID); err != nil {
			return err
		}
	}
	return nil
}

// takePlaces finds for each address the earlier host whose place it takes. The first takes the first, which has the
// installation; others take the one at the same address, else the next that is left, and the zero value where none is. gone
// are those whose place nobody takes.
func takePlaces(addresses []pve.Address, earlier []auth.LoginHost) (places, gone []auth.LoginHost) {
	places, gone = make([]auth.LoginHost, len(addresses)), slices.Clone(earlier)
	take := func(i, from int) {
		places[i] = gone[from]
		gone = slices.Delete(gone, from, from+1)
	}
	if len(gone) > 0 {
		take(0, 0)
	}
	for i, at := range addresses {
		if places[i].ID != "" {
			continue
		}
		if same := slices.IndexFunc(gone, func(h auth.LoginHost) bool { return h.Address == at }); same >= 0 {
			take(i, same)
		}
	}
	for i := range addresses {
		if places[i].ID == "" && len(gone) > 0 {
			take(i, 0)
		}
	}
	return places, gone
}

// earlier are the hosts of an earlier demo in the same folder, the one that has the installation first. It refuses a folder
// with other hosts: that is no demo's.
func (d *Demo) earlier(ctx context.Context) ([]auth.LoginHost, error) {
	hosts, err := d.App.store.LoginHosts(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		if h.Address.Host != demoAddress {
			return nil, fmt.Errorf("--data (BERTH_DATA): this is not a demo's folder, people sign in there with %s", h.Address)
		}
	}
	claim, err := d.App.store.Claim(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(hosts, func(a, b auth.LoginHost) int {
		switch claim.Datacenter {
		case a.Datacenter:
			return -1
		case b.Datacenter:
			return 1
		}
		return 0
	})
	return hosts, nil
}

// startHosts starts the datacenters side by side: each makes keys of its own, which takes a moment.
func (d *Demo) startHosts(o DemoOptions) error {
	d.Hosts = make([]DemoHost, o.Hosts)
	problems := make([]error, o.Hosts)
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i := range d.Hosts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			d.Hosts[i], problems[i] = startHost(o, i)
		})
	}
	wg.Wait()
	return errors.Join(problems...)
}

// startHost starts one datacenter: a cluster of two for the first, standalone hosts behind it.
func startHost(o DemoOptions, i int) (DemoHost, error) {
	options := sim.Options{Members: []string{fmt.Sprintf("pve%d", i+2)}, Now: o.Now, Containers: o.Containers, Seed: uint64(i + 1)}
	name := options.Members[0]
	if i == 0 {
		name = "harbour"
		options.Name, options.Members = name, []string{"pve1", "pve2"}
	}
	dc, err := sim.New(options)
	if err != nil {
		return DemoHost{}, err
	}
	address := demoAddress + ":0"
	if o.FirstPort != 0 {
		address = fmt.Sprintf("%s:%d", demoAddress, o.FirstPort+i)
	}
	host, err := dc.Listen("", address)
	if err != nil && o.FirstPort != 0 {
		// A real Proxmox VE host or another demo may have the port.
		host, err = dc.Listen("", demoAddress+":0")
	}
	if err != nil {
		return DemoHost{}, fmt.Errorf("start a simulated host: %w", reason(err))
	}
	return DemoHost{Name: name, Datacenter: dc, Host: host}, nil
}

func addressOf(h *sim.Host) (pve.Address, error) {
	host, port, err := net.SplitHostPort(h.Address())
	if err != nil {
		return pve.Address{}, err
	}
	return pve.ParseAddress(net.JoinHostPort(host, port), 0)
}

// Describe writes what a newcomer needs: the address, the hosts, and whom to sign in as.
func (d *Demo) Describe(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Berth with simulated Proxmox hosts: open %s\n\n", d.App.URL())
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "  Proxmox host\tName\tCertificate (known and pinned)")
	for i, h := range d.Hosts {
		if i == 5 && len(d.Hosts) > 6 {
			fmt.Fprintf(table, "  ... and %d more\t\t\n", len(d.Hosts)-i)
			break
		}
		fmt.Fprintf(table, "  %s\t%s\t%s...\n", h.Host.Address(), h.Name, h.Host.Fingerprint()[:23])
	}
	table.Flush()
	b.WriteByte('\n')
	table = tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "  User\tRealm\tPassword\tWho it is")
	for _, u := range []struct{ name, realm, purpose string }{
		{"root", "pam", "may do everything"},
		{"alice", "pve", "sees two containers and nothing else"},
		{"bob", "pve", "sees all containers; has a second factor"},
		{"erin", "corp", "sees one container; from an LDAP directory"},
		{"frank", "campus", "sees all and may change none; from an Active Directory"},
		{"carol", "pve", "disabled: is refused"},
		{"dave", "pve", "expired: is refused"},
	} {
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", u.name, u.realm, sim.DefaultPassword, u.purpose)
	}
	table.Flush()
	fmt.Fprintf(&b, "\n  bob's second factor: secret %s, the code right now is %s; recovery codes %s, ...\n",
		sim.DefaultTOTPSecret, sim.TOTP(sim.DefaultTOTPSecret, d.now()), strings.Join(sim.DefaultRecoveryCodes()[:2], ", "))
	b.WriteString("\nEvery host has these users. Ctrl-C ends it.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Run serves until the context ends.
func (d *Demo) Run(ctx context.Context) error { return d.App.Run(ctx) }

// Close ends Berth and the simulated hosts.
func (d *Demo) Close() error {
	var problems []error
	if d.App != nil {
		problems = append(problems, d.App.Close())
	}
	for _, h := range d.Hosts {
		if h.Host != nil {
			problems = append(problems, h.Host.Close())
		}
	}
	return errors.Join(problems...)
}

// TemporaryFolder makes a data folder for one run, and returns what removes it.
func TemporaryFolder() (folder string, remove func(), err error) {
	if folder, err = os.MkdirTemp("", "berth-demo-*"); err != nil {
		return "", nil, fmt.Errorf("cannot make a temporary data folder: %w", reason(err))
	}
	return folder, func() {
		if err := os.RemoveAll(folder); err != nil {
			slog.Warn("temporary data folder not removed", "folder", folder, "cause", err)
		}
	}, nil
}
