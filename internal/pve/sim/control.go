package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
)

// Call does what a user or token could do with their own client, Proxmox VE's page for one: it performs a call on the API
// below /api2/json ("POST", "/nodes/pve1/lxc/101/status/start") with all of PVE's checks but authentication, at whatever
// time and state the datacenter is in. It goes over no connection, so no host logs or counts it and no fault hits it. The
// answer is the data as JSON; a refusal is an error with PVE's text.
func (d *Datacenter) Call(who, method, path string, params url.Values) (json.RawMessage, error) {
	p, err := d.principal(who)
	if err != nil {
		return nil, err
	}
	values := make(map[string][]string, len(params))
	for name, v := range params {
		values[name] = v
	}
	route, fromPath := d.routes.find(method, path)
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	c := &call{dc: d, host: &Host{dc: d, member: d.members[0]}, who: p, now: now, clock: now, direct: true}
	data, err := c.perform(method, path, route, fromPath, values, p.token != "")
	if err != nil {
		return nil, fmt.Errorf("%s %s as %s: %w", method, path, who, err)
	}
	if t, ok := data.(total); ok {
		data = t.data
	}
	return encode(data)
}

// principal is a user or token that exists.
func (d *Datacenter) principal(id string) (*principal, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := newPrincipal(id)
	if d.access.users[p.user] == nil || p.token != "" && d.access.token(id) == nil {
		return nil, fmt.Errorf("no user or token %q", id)
	}
	return p, nil
}

// ChangeContainer is Call for a lifecycle action ("start", "stop", "shutdown", "reboot", "suspend", "resume", "delete") on a
// container, wherever it is, and returns the task that was begun.
func (d *Datacenter) ChangeContainer(who string, vmid int, action string) (upid string, err error) {
	c, ok := d.Container(vmid)
	if !ok {
		return "", fmt.Errorf("no container %d", vmid)
	}
	method, path := "POST", fmt.Sprintf("/nodes/%s/lxc/%d", c.Node, vmid)
	if action == "delete" {
		method = "DELETE"
	} else {
		path += "/status/" + action
	}
	data, err := d.Call(who, method, path, nil)
	if err != nil {
		return "", err
	}
	return upid, json.Unmarshal(data, &upid)
}

// FailTasks makes every task that works on one of the containers fail as soon as it has locked it, with line as its error
// and as the last line of its log, until it is called with an empty line. Suspending and resuming fail anyway.
func (d *Datacenter) FailTasks(line string, vmids ...int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled()
	for _, vmid := range vmids {
		if line == "" {
			delete(d.guests.failing, vmid)
		} else {
			d.guests.failing[vmid] = line
		}
	}
}

// HoldTasks lets no task make progress, or end, until it is called with false; tasks that are begun meanwhile stay running.
// What was held back then happens at once, as of the time at which it was due.
func (d *Datacenter) HoldTasks(hold bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled()
	d.guests.held = hold
	d.settled()
}

// failure is the error that a guest's tasks are to fail with, if they are.
func (s *guestState) failure(vmid int) error {
	if line := s.failing[vmid]; line != "" {
		return errors.New(line)
	}
	return nil
}

// Accepted counts the calls that hosts answered for one thing done to one VMID: a lifecycle action ("start", "stop",
// "shutdown", "reboot", "suspend", "resume", "delete") that got a task, whatever became of it, or a change of its
// configuration ("config"). Those for a VMID without a guest don't count, and what Call does doesn't either.
func (d *Datacenter) Accepted(vmid int, action string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.guests.accepted[lifecycle{vmid, action}]
}

type lifecycle struct {
	vmid   int
	action string
}

// accept counts a call for Accepted.
func (c *call) accept(action string) {
	vmid, _ := strconv.Atoi(c.param("vmid"))
	if !c.direct && c.dc.guests.byID[vmid] != nil {
		c.dc.guests.accepted[lifecycle{vmid, action}]++
	}
}
