package config

import (
	"path/filepath"
	"strconv"
	"time"
)

// Demo are the flags of `berth demo` as they were given.
type Demo struct {
	Listen     string `placeholder:"HOST:PORT" default:"127.0.0.1:8080" env:"BERTH_LISTEN" help:"Address to serve on."`
	Data       string `placeholder:"FOLDER" env:"BERTH_DATA" help:"Folder to keep the demo's data in. Default: a temporary one, removed at the end."`
	Hosts      string `placeholder:"N" default:"2" env:"BERTH_DEMO_HOSTS" help:"How many simulated Proxmox hosts."`
	Containers string `placeholder:"M" default:"0" env:"BERTH_CONTAINERS" help:"How many containers each of them has. Default: a small set of believable ones."`
	Log
}

// DemoSettings are flags of a demo that were found right.
type DemoSettings struct {
	Settings
	Hosts, Containers int
}

// The size of a demo that one machine can be expected to simulate.
const (
	maxDemoHosts      = 200
	maxDemoContainers = 2000
)

// Check turns flags into settings, or returns Problems. Data must be given: the caller makes a temporary folder.
func (d Demo) Check() (DemoSettings, error) {
	var p Problems
	out := DemoSettings{Settings: Settings{
		Listen: d.Listen, Data: d.Data, KeyFile: filepath.Join(d.Data, keyFileName),
		SessionIdle: maxIdle, SessionMax: 7 * 24 * time.Hour, Log: d.Log.check(&p),
	}}
	if why := checkListen(d.Listen); why != "" {
		p.add("listen", "BERTH_LISTEN", "%s", why)
	}
	out.Hosts = checkCount(&p, "hosts", "BERTH_DEMO_HOSTS", d.Hosts, 1, maxDemoHosts)
	out.Containers = checkCount(&p, "containers", "BERTH_CONTAINERS", d.Containers, 0, maxDemoContainers)
	return out, p.OrNil()
}

// Sim are the flags of `berth sim` as they were given.
type Sim struct {
	Listen     string   `placeholder:"HOST:PORT" default:"127.0.0.1:8006" env:"BERTH_LISTEN" help:"Address to serve on."`
	Containers string   `placeholder:"N" default:"0" env:"BERTH_CONTAINERS" help:"How many containers the host has. Default: a small set of believable ones."`
	Fault      []string `placeholder:"FAULT" sep:"none" env:"BERTH_FAULT" help:"What goes wrong, for example \"latency=2s,path=/cluster/resources\" or \"status=595\"; may be repeated. Parts: method=, path=, latency=, skew=, refuse, hang, cutanswer, cut, endless, wrongjson, status=, reason=, times=."`
	Log
}

// SimSettings are flags of a simulated host that were found right; faults are left to the host that gets them.
type SimSettings struct {
	Listen     string
	Containers int
	Log        LogSettings
}

// Check turns flags into settings, or returns Problems. checkFault judges one fault.
func (s Sim) Check(checkFault func(string) error) (SimSettings, error) {
	var p Problems
	out := SimSettings{Listen: s.Listen, Log: s.Log.check(&p)}
	if why := checkListen(s.Listen); why != "" {
		p.add("listen", "BERTH_LISTEN", "%s", why)
	}
	out.Containers = checkCount(&p, "containers", "BERTH_CONTAINERS", s.Containers, 0, maxDemoContainers)
	for _, f := range s.Fault {
		if err := checkFault(f); err != nil {
			p.add("fault", "BERTH_FAULT", "%v", err)
		}
	}
	return out, p.OrNil()
}

func checkCount(p *Problems, flag, variable, text string, least, most int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		p.add(flag, variable, "%q is not a whole number from %d to %d", text, least, most)
	}
	return n
}
