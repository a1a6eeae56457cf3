package sim

import "time"

// rrdRange is the resolution and the number of points of a time frame (pve-cluster, PVE::RRD::create_rrd_data, for the
// files that PVE 9 writes).
type rrdRange struct {
	resolution time.Duration
	points     int
}

var rrdRanges = map[string]rrdRange{
	"hour":   {time.Minute, 60},
	"day":    {time.Minute, 1440},
	"week":   {30 * time.Minute, 336},
	"month":  {30 * time.Minute, 1440},
	"year":   {6 * time.Hour, 1440},
	"decade": {7 * 24 * time.Hour, 570},
}

func rrdEndpoints() []endpoint {
	cf := param{name: "cf", kind: "string", enum: []string{"AVERAGE", "MAX"}}
	frame := func(names ...string) param {
		return param{name: "timeframe", kind: "string", required: true, enum: names}
	}
	frames := frame("hour", "day", "week", "month", "year")
	return []endpoint{
		{
			method: "GET", path: "/nodes/{node}/lxc/{vmid}/rrddata", check: onGuest("VM.Audit"),
			params: []param{frames, cf}, run: guestHistory,
		},
		{
			method: "GET", path: "/nodes/{node}/rrddata", check: onNode("Sys.Audit"),
			params: []param{frame("hour", "day", "week", "month", "year", "decade"), cf}, run: nodeHistory,
		},
		{
			method: "GET", path: "/nodes/{node}/storage/{storage}/rrddata", check: onStorage,
			params: []param{frames, cf}, run: storageHistory,
		},
	}
}

// history calls row for each interval of the time frame that a call asks for. The last interval is the last complete
// one; its time is its start.
func (c *call) history(now time.Time, row func(from, to time.Time, peak bool) map[string]any) []map[string]any {
	r := rrdRanges[c.param("timeframe")]
	peak := c.param("cf") == "MAX"
	end := now.Truncate(r.resolution)
	rows := make([]map[string]any, 0, r.points)
	for i := range r.points {
		from := end.Add(-time.Duration(r.points-i) * r.resolution)
		values := row(from, from.Add(r.resolution), peak)
		if values == nil {
			values = map[string]any{}
		}
		values["time"] = from.Unix()
		rows = append(rows, values)
	}
	return rows
}

// guestHistory has sizes for as long as the guest exists and figures for when it ran; what isn't known is left out.
// Network and disk are rates in bytes a second here, not counters.
func guestHistory(c *call) (any, error) {
	now := c.dc.settled()
	g := c.dc.guests.byID[c.vmid()]
	if g == nil || g.kind != kindContainer {
		return []map[string]any{}, nil // no proxyto in PVE, and no look at the configuration: an absent file has no rows
	}
	return c.history(now, func(from, to time.Time, peak bool) map[string]any {
		row := map[string]any{"maxcpu": g.cpus, "maxmem": g.maxmem, "maxdisk": g.maxdisk}
		if !g.ranWithin(from, to) {
			return row
		}
		read := func(w wave) float64 {
			if peak {
				return w.peak(from, to)
			}
			return w.average(from, to)
		}
		row["cpu"] = min(1, read(g.load.cpu))
		row["mem"] = read(g.load.mem) * float64(g.maxmem)
		row["memhost"] = row["mem"]
		row["disk"] = read(g.load.disk) * float64(g.maxdisk)
		row["netin"], row["netout"] = read(g.load.netin), read(g.load.netout)
		row["diskread"], row["diskwrite"] = read(g.load.diskread), read(g.load.diskwrite)
		if p := g.pressure(from); p != nil {
			row["pressurecpusome"], row["pressurecpufull"] = p.CPUSome, 0
			row["pressureiosome"], row["pressureiofull"] = p.IOSome, p.IOFull
			row["pressurememorysome"], row["pressurememoryfull"] = p.MemorySome, p.MemoryFull
		}
		return row
	}), nil
}

// nodeHistory goes back as far as is asked for: members have been there longer than since their last boot.
func nodeHistory(c *call) (any, error) {
	now := c.dc.settled()
	m := c.dc.member(c.param("node"))
	load := c.dc.nodeLoad(m)
	return c.history(now, func(from, to time.Time, peak bool) map[string]any {
		u := load.use(from, to, peak)
		return map[string]any{
			"maxcpu": u.cpus, "cpu": u.cpu, "iowait": u.iowait, "loadavg": u.load,
			"memtotal": u.memory, "memused": u.memoryUsed, "memavailable": u.memory - u.memoryUsed, "arcsize": u.arc,
			"swaptotal": u.swap, "swapused": u.swapUsed, "roottotal": u.rootfs, "rootused": u.rootfsUsed,
			"netin": u.netin, "netout": u.netout,
		}
	}), nil
}

func storageHistory(c *call) (any, error) {
	now := c.dc.settled()
	s, err := c.storage()
	if err != nil {
		return nil, err
	}
	return c.history(now, func(from, to time.Time, _ bool) map[string]any {
		return map[string]any{"total": s.total, "used": c.dc.storageUsed(s, c.param("node"), to)}
	}), nil
}
