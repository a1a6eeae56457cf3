package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"berth/internal/audit"
	"berth/internal/auth"
	"berth/internal/config"
	"berth/internal/pve"
	"berth/internal/store"
)

// Operator is what the operator does to an installation from the command line, whether it is running or not.
type Operator struct {
	store    *store.Store
	shared   shared
	client   *pve.Client
	hosts    *auth.Hosts
	trail    *audit.Trail
	settings config.Settings
}

// Operate opens an installation for the operator. It makes none.
func Operate(ctx context.Context, settings config.Settings) (*Operator, error) {
	if settings.Database == "" {
		path := filepath.Join(settings.Data, store.FileName)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no installation in %s yet: berth serve makes it (--data names another folder)", settings.Data)
		}
	}
	db, err := openStore(ctx, settings)
	if err != nil {
		return nil, err
	}
	shared, err := share(ctx, settings, db, nil, nil, time.Now)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	client := pve.NewClient(pve.Options{Roots: settings.Roots, Forbidden: outside(settings.AllowNetworks)})
	return &Operator{
		store: db, shared: shared, client: client, settings: settings,
		hosts: auth.NewHosts(auth.HostsOptions{Store: shared.hosts, Client: client, Now: time.Now}),
		trail: audit.NewTrail(audit.Options{Store: db, Now: time.Now, Kept: settings.AuditKept}),
	}, nil
}

// Close lets go of the installation.
func (o *Operator) Close() error {
	o.client.Close()
	o.shared.close()
	return o.store.Close()
}

// Hosts lists the login hosts, and the datacenter that claimed the installation.
func (o *Operator) Hosts(ctx context.Context) (hosts []auth.LoginHost, claimedBy string, err error) {
	if hosts, err = o.store.LoginHosts(ctx); err != nil {
		return nil, "", err
	}
	claim, err := o.store.Claim(ctx)
	return hosts, claim.Datacenter, err
}

// Presented is the certificate that a host presents; trusted tells that it verifies, so that it needs no pin. The host is
// sent nothing but the handshake.
func (o *Operator) Presented(ctx context.Context, at pve.Address) (peer pve.Peer, trusted bool, err error) {
	peer, err = o.client.Host(at, pve.Trust{}).Handshake(ctx)
	var unknown *pve.CertificateError
	if errors.As(err, &unknown) {
		return unknown.Peer, false, nil
	}
	return peer, err == nil, err
}

// AddHost makes an address a login host: of the datacenter of another login host, or of one of its own. With a
// fingerprint, which the host must present at that moment, it is pinned; without, its certificate must verify.
func (o *Operator) AddHost(ctx context.Context, at pve.Address, fingerprint *pve.Fingerprint, joins *pve.Address) error {
	peer, err := o.client.Host(at, pve.Trust{Certificate: fingerprint}).Handshake(ctx)
	if err != nil {
		return err
	}
	var key *pve.KeyPin
	if fingerprint != nil {
		key = &peer.Key
	}
	datacenter := ""
	if joins != nil {
		other, err := o.store.LoginHostAt(ctx, *joins)
		if err != nil {
			return fmt.Errorf("%s: %w", joins, err)
		}
		datacenter = other.Datacenter
	}
	if err := o.hosts.Add(ctx, at, key, peer.Fingerprint, datacenter); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	o.record(ctx, audit.HostAdd, at, "certificate "+peer.Fingerprint.String())
	return nil
}

// RepinHost pins a login host to the certificate with the given fingerprint, which it must present at that moment.
func (o *Operator) RepinHost(ctx context.Context, at pve.Address, fingerprint pve.Fingerprint) error {
	host, err := o.store.LoginHostAt(ctx, at)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	before := host.Fingerprint
	if _, err := o.hosts.Repin(ctx, host, fingerprint); err != nil {
		return err
	}
	o.record(ctx, audit.HostRepin, at, "certificate "+before.String()+" replaced by "+fingerprint.String())
	return nil
}

// RemoveHost removes a login host and ends the sessions there. The last one stays.
func (o *Operator) RemoveHost(ctx context.Context, at pve.Address) error {
	host, err := o.store.LoginHostAt(ctx, at)
	if err == nil {
		err = o.shared.hosts.RemoveHost(ctx, host.ID)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	o.record(ctx, audit.HostRemove, at, "")
	return nil
}

func (o *Operator) record(ctx context.Context, action audit.Action, at pve.Address, detail string) {
	o.trail.Record(ctx, audit.Entry{Action: action, Target: at.String(), Detail: detail})
}
