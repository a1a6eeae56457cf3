package task

import (
	"context"
	"time"

	"berth/internal/container"
	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// rightsPatience is how long a list waits for permissions that are not known yet: they only spare a click in vain.
	rightsPatience = 150 * time.Millisecond
	// rightsTimeout bounds reading them.
	rightsTimeout = 8 * time.Second
)

// AllowedEach is Allowed for each of many containers, for a list that must not wait: the permissions of every node are looked
// up once, side by side, and one that does not tell them soon refuses nothing.
func (s *Service) AllowedEach(ctx context.Context, caller session.Caller, containers []*container.Container) []map[Action]string {
	rights := s.rightsSoon(ctx, caller, containers)
	each := make([]map[Action]string, len(containers))
	for i, c := range containers {
		each[i] = allowed(c, rights[doorOf(c)])
	}
	return each
}

// rightsSoon are the caller's permissions by the node that containers were read through, as far as they can be had soon.
func (s *Service) rightsSoon(ctx context.Context, caller session.Caller, containers []*container.Container) map[string]pve.Permissions {
	type answer struct {
		door string
		held pve.Permissions
	}
	doors := map[string]bool{}
	for _, c := range containers {
		doors[doorOf(c)] = true
	}
	answers := make(chan answer, len(doors))
	for door := range doors {
		// What comes late is remembered for the next list, so it is not given up with this one.
		s.background(ctx, func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, rightsTimeout)
			defer cancel()
			held, err := s.o.Nodes.Rights(ctx, caller, door)
			if err != nil {
				held = nil // Proxmox VE decides
			}
			answers <- answer{door, held}
		})
	}
	known := make(map[string]pve.Permissions, len(doors))
	patience := time.NewTimer(rightsPatience)
	defer patience.Stop()
	for range doors {
		select {
		case a := <-answers:
			known[a.door] = a.held
		case <-patience.C:
			return known
		case <-ctx.Done():
			return known
		}
	}
	return known
}
