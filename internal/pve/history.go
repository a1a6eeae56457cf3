package pve

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"
)

// Timeframe is how far back a history reaches.
type Timeframe string

// The values of the parameter timeframe that containers have.
const (
	LastHour  Timeframe = "hour"
	LastDay   Timeframe = "day"
	LastWeek  Timeframe = "week"
	LastMonth Timeframe = "month"
	LastYear  Timeframe = "year"
)

// Consolidation is how one point stands for the time up to the next.
type Consolidation string

// The values of the parameter cf.
const (
	Average Consolidation = "AVERAGE"
	Maximum Consolidation = "MAX"
)

// Figure is a number that may be missing: PVE has none for the time in which a container, its member or the daemon that
// takes note of it was not running.
type Figure struct {
	Value float64
	Known bool
}

// Point is one interval of a container's history. Network and disk are bytes a second here, not counters.
type Point struct {
	Time time.Time // the start of the interval

	CPU, MaxCPU                        Figure // the share of MaxCPU in use, 0 to 1
	Mem, MaxMem                        Figure // bytes
	Disk, MaxDisk                      Figure // bytes
	NetIn, NetOut, DiskRead, DiskWrite Figure
}

// maxHistoryBody holds several times the 1440 points of the longest time frame, with every figure that PVE 9 writes.
const maxHistoryBody = 4 << 20

// History reads what a container used over a time frame, as its member wrote it down (RRD.pm create_rrd_data of
// pve-cluster): a point each minute for an hour or a day, each half hour for a week or a month, each six hours for a year in
// PVE 9, and up to 70 points before that. The order is the host's. It needs VM.Audit. PVE has no history of a container
// that isn't there, and says so by an empty list.
func (h *Host) History(ctx context.Context, credentials Credentials, node string, vmid int, frame Timeframe, by Consolidation) ([]Point, error) {
	c := get(credentials, "nodes", node, "lxc", strconv.Itoa(vmid), "rrddata")
	c.maxBody = maxHistoryBody
	c.set("timeframe", string(frame))
	c.set("cf", string(by))
	list, _, err := rows(ctx, h, c, readPoint)
	return list, err
}

func readPoint(r record) Point {
	return Point{
		Time:      r.time("time"),
		CPU:       r.figure("cpu"),
		MaxCPU:    r.figure("maxcpu"),
		Mem:       r.figure("mem"),
		MaxMem:    r.figure("maxmem"),
		Disk:      r.figure("disk"),
		MaxDisk:   r.figure("maxdisk"),
		NetIn:     r.figure("netin"),
		NetOut:    r.figure("netout"),
		DiskRead:  r.figure("diskread"),
		DiskWrite: r.figure("diskwrite"),
	}
}

// figure is a number of 0 or more; whatever else stands there is unknown.
func (r record) figure(name string) Figure {
	f, err := strconv.ParseFloat(strings.TrimSpace(r.text(name)), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
		return Figure{}
	}
	return Figure{f, true}
}
