package sim

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// powerEndpoints are the lifecycle calls of containers. What is refused before a worker starts is a plain die, so a 500
// at once; everything else, locks included, fails inside the task. Which is which follows pve-container,
// PVE/API2/LXC/Status.pm and the destroy_vm of PVE/API2/LXC.pm.
func powerEndpoints() []endpoint {
	skiplock := param{name: "skiplock", kind: "boolean"}
	timeout := param{name: "timeout", kind: "integer", min: 0, max: math.MaxInt64}
	post := func(action string, run func(*call) (any, error), more ...param) endpoint {
		return endpoint{
			method: "POST", path: "/nodes/{node}/lxc/{vmid}/status/" + action, check: onGuest("VM.PowerMgmt"),
			params: more, run: run,
		}
	}
	return []endpoint{
		post("start", startContainer, skiplock, param{name: "debug", kind: "boolean"}),
		post("stop", stopContainer, skiplock, param{name: "overrule-shutdown", kind: "boolean"}),
		post("shutdown", shutdownContainer, timeout, param{name: "forceStop", kind: "boolean"}),
		post("reboot", rebootContainer, timeout),
		post("suspend", suspendContainer),
		post("resume", resumeContainer),
		{
			method: "DELETE", path: "/nodes/{node}/lxc/{vmid}", check: onGuest("VM.Allocate"),
			params: []param{
				{name: "force", kind: "boolean"}, {name: "purge", kind: "boolean"},
				{name: "destroy-unreferenced-disks", kind: "boolean"},
			},
			run: destroyContainer,
		},
	}
}

// forkFor starts a worker for a container, counts it as accepted if there is such a container, and returns the UPID,
// which is what these calls answer.
func (c *call) forkFor(action, kind string, steps ...step) (any, error) {
	m := c.dc.member(c.param("node"))
	c.accept(action)
	return c.dc.fork(m, kind, strconv.Itoa(c.vmid()), c.who.id, c.dc.now(), steps...).text, nil
}

// runs tells whether the container runs on the node that was asked, which is all that PVE::LXC::check_running looks at:
// a container that doesn't exist does not run.
func (c *call) runs() bool {
	g, err := c.container()
	return err == nil && g.running()
}

// skipsLock reads skiplock, which is root's alone.
func (c *call) skipsLock() (bool, error) {
	if !c.flag("skiplock") {
		return false, nil
	}
	if c.who.id != rootUser {
		return false, badParam("skiplock", "Only root may use this option.")
	}
	return true, nil
}

func startContainer(c *call) (any, error) {
	skip, err := c.skipsLock()
	if err != nil {
		return nil, err
	}
	vmid := c.vmid()
	if c.runs() {
		return nil, fmt.Errorf("CT %d already running", vmid)
	}
	d := c.dc
	return c.forkFor("start", "vzstart", d.locked(c.param("node"), vmid, func(t *task, g *guest, _ time.Time) error {
		if g.template {
			return errors.New("you can't start a CT if it's a template")
		}
		if err := g.checkLock(); err != nil && !skip && g.lock != "mounted" {
			return err
		}
		t.then(d.starting(g)...)
		return nil
	}))
}

// starting are the steps of PVE::LXC::vm_start. The container counts as running as soon as its monitor listens, a moment
// before the task ends.
func (d *Datacenter) starting(g *guest) []step {
	return []step{
		{g.load.startup * 2 / 3, func(t *task, at time.Time) error {
			if line := g.failStart; line != "" {
				g.failStart = ""
				t.print(`run_buffer: 571 Script exited with status 255`)
				t.print(`lxc_init: 845 Failed to run lxc.hook.pre-start for container "%d"`, g.vmid)
				t.print(`__lxc_start: 2034 Failed to initialize container "%d"`, g.vmid)
				return errors.New(line)
			}
			g.applyPending()
			d.changed(g)
			g.start(at, d.guests.nextPID(g.node))
			return nil
		}},
		{g.load.startup / 3, func(*task, time.Time) error { return nil }},
	}
}

func stopContainer(c *call) (any, error) {
	skip, err := c.skipsLock()
	if err != nil {
		return nil, err
	}
	vmid := c.vmid()
	if !c.runs() {
		return nil, fmt.Errorf("CT %d not running", vmid)
	}
	d, who := c.dc, c.who
	var steps []step
	if c.flag("overrule-shutdown") {
		steps = append(steps, step{do: func(t *task, at time.Time) error {
			if list := d.abortShutdowns(who, vmid, at); len(list) > 0 {
				t.print("overruled vzshutdown tasks: %s", strings.Join(list, ", "))
			}
			return nil
		}})
	}
	return c.forkFor("stop", "vzstop", append(steps, d.locked(c.param("node"), vmid, func(t *task, g *guest, _ time.Time) error {
		if err := g.checkLock(); err != nil && !skip && g.lock != "mounted" {
			return err
		}
		t.then(killing(g))
		return nil
	}))...)
}

// killing is lxc-stop --kill.
func killing(g *guest) step {
	return step{300*time.Millisecond + g.load.startup/4, func(_ *task, at time.Time) error {
		g.stop(at)
		return nil
	}}
}

// abortShutdowns ends running shutdown tasks of a guest that who may end (PVE::GuestHelpers::abort_guest_tasks, in
// pve-guest-common) and returns their UPIDs.
func (d *Datacenter) abortShutdowns(who *principal, vmid int, at time.Time) []string {
	var ended []string
	for _, t := range append([]*task(nil), d.guests.active...) {
		if t.kind != "vzshutdown" || t.id != strconv.Itoa(vmid) {
			continue
		}
		if t.belongsTo(who) || d.can(who, "/nodes/"+t.node, "Sys.Modify") {
			d.finish(t, at, errInterrupted)
			ended = append(ended, t.text)
		}
	}
	return ended
}

// errInterrupted is what a worker dies of when it gets a signal (PVE::RESTEnvironment::fork_worker).
var errInterrupted = errors.New("received interrupt")

func shutdownContainer(c *call) (any, error) {
	vmid := c.vmid()
	if !c.runs() {
		return nil, fmt.Errorf("CT %d not running", vmid)
	}
	timeout, force := c.duration("timeout", 60*time.Second), c.flag("forceStop")
	return c.forkFor("shutdown", "vzshutdown", c.dc.locked(c.param("node"), vmid, func(t *task, g *guest, _ time.Time) error {
		if err := g.checkLock(); err != nil {
			return err
		}
		t.then(stopping(g, timeout, force)...)
		return nil
	}))
}

// stopping are the steps of PVE::LXC::vm_stop without its kill: lxc-stop waits for the timeout; after that it kills, or,
// if it must not, PVE waits once more for timeout and five seconds before it gives up.
func stopping(g *guest, timeout time.Duration, force bool) []step {
	if !g.running() {
		return []step{{0, func(*task, time.Time) error { return nil }}}
	}
	stop := func(_ *task, at time.Time) error { g.stop(at); return nil }
	needs := g.load.shutdownFor
	switch grace := timeout + 5*time.Second; {
	case needs <= timeout:
		return []step{{needs, stop}}
	case force:
		return []step{{timeout, stop}}
	default:
		warn := step{timeout, func(t *task, _ time.Time) error {
			t.print("command 'lxc-stop -n %d --nokill --timeout %d' failed: exit code 1", g.vmid, int(timeout/time.Second))
			return nil
		}}
		if needs <= timeout+grace {
			return []step{warn, {needs - timeout, stop}}
		}
		return []step{warn, {grace, func(*task, time.Time) error { return errors.New("container did not stop") }}}
	}
}

// rebootContainer is vm_reboot, which says VM where the others say CT, and doesn't look at the configuration's lock.
func rebootContainer(c *call) (any, error) {
	vmid := c.vmid()
	if !c.runs() {
		return nil, fmt.Errorf("VM %d not running", vmid)
	}
	timeout := c.duration("timeout", 60*time.Second) // without --timeout, lxc-stop waits a minute
	d := c.dc
	return c.forkFor("reboot", "vzreboot", d.locked(c.param("node"), vmid, func(t *task, g *guest, _ time.Time) error {
		if !g.running() {
			return nil
		}
		t.then(append(stopping(g, timeout, true), d.starting(g)...)...)
		return nil
	}))
}

func suspendContainer(c *call) (any, error) {
	vmid := c.vmid()
	if !c.runs() {
		return nil, fmt.Errorf("CT %d not running", vmid)
	}
	return c.forkFor("suspend", "vzsuspend", c.dc.locked(c.param("node"), vmid, func(t *task, g *guest, _ time.Time) error {
		if err := g.checkLock(); err != nil {
			return err
		}
		t.then(checkpointing("Checkpointing", fmt.Sprintf("lxc-checkpoint -n %d -s -D /var/lib/vz/dump", vmid), vmid))
		return nil
	}))
}

// resumeContainer takes no lock in PVE either. As nothing could be suspended, there is nothing to restore from.
func resumeContainer(c *call) (any, error) {
	vmid := c.vmid()
	if c.runs() {
		return nil, fmt.Errorf("CT %d already running", vmid)
	}
	return c.forkFor("resume", "vzresume",
		checkpointing("Restoring", fmt.Sprintf("lxc-checkpoint -n %d -r --foreground -D /var/lib/vz/dump", vmid), vmid))
}

// checkpointing fails, as on most real hosts: lxc-checkpoint needs CRIU, which PVE doesn't install, and which can't
// freeze what containers usually have.
func checkpointing(doing, command string, vmid int) step {
	return step{400 * time.Millisecond, func(t *task, _ time.Time) error {
		t.print("lxc-checkpoint: %d: tools/lxc_checkpoint.c: main: %s %d failed", vmid, doing, vmid)
		return fmt.Errorf("command '%s' failed: exit code 1", command)
	}}
}

// destroyContainer is destroy_vm. Its checks are made at once and again by the worker under the lock.
func destroyContainer(c *call) (any, error) {
	g, err := c.container()
	if err != nil {
		return nil, err
	}
	force := c.flag("force")
	check := func(g *guest) error {
		if g.conf["protection"] == "1" {
			return fmt.Errorf("can't remove CT %d - protection mode enabled", g.vmid)
		}
		if err := g.checkLock(); err != nil {
			return err
		}
		if g.running() && !force {
			return fmt.Errorf("unable to destroy CT %d - container is running", g.vmid)
		}
		return nil
	}
	if err := check(g); err != nil {
		return nil, err
	}
	d, purge, sweep := c.dc, c.flag("purge"), c.flag("destroy-unreferenced-disks")
	destroy := step{milliseconds(between(g.seed, "destroy", 700, 2500)), func(t *task, at time.Time) error {
		for _, volume := range d.freeVolumes(g, sweep) {
			t.print("  Logical volume %q successfully removed.", volume)
		}
		d.forgetGuestAccess(g.vmid)
		if purge {
			t.print("purging CT %d from related configurations..", g.vmid)
		}
		d.remove(g)
		return nil
	}}
	return c.forkFor("delete", "vzdestroy", d.locked(g.node, g.vmid, func(t *task, g *guest, _ time.Time) error {
		if err := check(g); err != nil {
			return err
		}
		// While its disks go, only a configuration with this lock is left, so that nobody takes the VMID.
		mark := step{0, func(*task, time.Time) error {
			g.conf.set("lock", "destroyed")
			d.changed(g)
			return nil
		}}
		if g.running() {
			t.print("forced to stop CT %d before destroying!", g.vmid)
			t.then(killing(g), mark, destroy)
		} else {
			t.then(mark, destroy)
		}
		return nil
	}))
}
