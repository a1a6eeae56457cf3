package auth

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/session"
)

// doors is a store that knows login hosts and nothing else.
type doors struct {
	Store
	hosts []LoginHost
}

func (d doors) LoginHost(_ context.Context, id string) (LoginHost, error) {
	for _, host := range d.hosts {
		if host.ID == id {
			return host, nil
		}
	}
	return LoginHost{}, ErrNoHost
}

func (d doors) LoginHosts(context.Context) ([]LoginHost, error) { return d.hosts, nil }

// TestAbuseBusyDoorIsNotDown: guesses that take all sign-ins of a login host neither send other people's passwords to the next
// one, nor make the host seem down to those who are signed in.
func TestAbuseBusyDoorIsNotDown(t *testing.T) {
	first := LoginHost{ID: "first", Datacenter: "dc", Address: pve.Address{Host: "pve1.lan", Port: 8006}}
	second := LoginHost{ID: "second", Datacenter: "dc", Address: pve.Address{Host: "pve2.lan", Port: 8006}}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hosts := NewHosts(HostsOptions{
		Store: doors{hosts: []LoginHost{first, second}}, Client: pve.NewClient(pve.Options{}), Now: func() time.Time { return now },
	})
	// try calls the datacenter by its first door, which gives an answer, and tells which doors were tried.
	try := func(answer error) (tried []string, err error) {
		err = hosts.tryFrom(t.Context(), first, func(_ context.Context, door LoginHost, _ *pve.Host) error {
			tried = append(tried, door.ID)
			if door.ID == first.ID {
				return answer
			}
			return nil
		})
		return tried, err
	}
	busy := &pve.Error{Kind: pve.KindBusy}
	if tried, err := try(busy); !errors.Is(err, busy) || !slices.Equal(tried, []string{"first"}) {
		t.Errorf("busy: tried %q, %v", tried, err)
	}
	if tried, err := try(nil); err != nil || !slices.Equal(tried, []string{"first"}) {
		t.Errorf("the next call: tried %q, %v; the busy door was taken to be down", tried, err)
	}
	if tried, err := try(&pve.Error{Kind: pve.KindHostUnreachable}); err != nil || !slices.Equal(tried, []string{"first", "second"}) {
		t.Errorf("no answer: tried %q, %v", tried, err)
	}
	if tried, err := try(nil); err != nil || !slices.Equal(tried, []string{"second"}) {
		t.Errorf("the call after that: tried %q, %v", tried, err)
	}
}

// TestAbuseRenewalStaysInItsDatacenter: a ticket is renewed by login hosts of its session's datacenter, whatever host the
// session is said to be from.
func TestAbuseRenewalStaysInItsDatacenter(t *testing.T) {
	hosts := NewHosts(HostsOptions{
		Store:  doors{hosts: []LoginHost{{ID: "strange", Datacenter: "other", Address: pve.Address{Host: "127.0.0.1", Port: 1}}}},
		Client: pve.NewClient(pve.Options{}), Now: time.Now,
	})
	of := session.Identity{Datacenter: "dc", UserID: "root@pam"}
	if _, err := hosts.RenewTicket(t.Context(), of, "strange", pve.Ticket{UserID: "root@pam", Value: "PVE:t"}); !errors.Is(err, ErrNoHost) {
		t.Errorf("at a host of another datacenter: %v, want ErrNoHost", err)
	}
}
