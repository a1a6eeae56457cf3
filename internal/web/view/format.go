package view

import (
	"hash/fnv"
	"math"
	"strconv"
	"time"
)

var byteUnits = [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// scale finds the unit in which n bytes are a number below 1000, as Proxmox VE writes sizes.
func scale(n int64) (value float64, unit int) {
	value = float64(max(n, 0))
	for value >= 999.5 && unit < len(byteUnits)-1 {
		value /= 1024
		unit++
	}
	return value, unit
}

// figure writes a value in three digits: 0.42, 1.50, 12.4, 412.
func figure(value float64) string {
	switch {
	case value < 9.995:
		return strconv.FormatFloat(value, 'f', 2, 64)
	case value < 99.95:
		return strconv.FormatFloat(value, 'f', 1, 64)
	default:
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
}

// FormatBytes writes a size in binary units: "512 B", "1.50 GiB". Less than nothing is nothing.
func FormatBytes(n int64) string {
	value, unit := scale(n)
	if unit == 0 {
		return strconv.FormatInt(max(n, 0), 10) + " B"
	}
	return figure(value) + " " + byteUnits[unit]
}

// FormatUsage writes a size out of a whole and names the unit once where both have the same: "0.40 / 1.00 GiB". Without
// a known whole it is the size alone.
func FormatUsage(used, whole int64) string {
	if whole <= 0 {
		return FormatBytes(used)
	}
	value, unit := scale(used)
	_, wholeUnit := scale(whole)
	if unit == wholeUnit && unit > 0 {
		return figure(value) + " / " + FormatBytes(whole)
	}
	return FormatBytes(used) + " / " + FormatBytes(whole)
}

// FormatRate writes bytes a second: "1.50 MiB/s".
func FormatRate(bytes int64) string { return FormatBytes(bytes) + "/s" }

// FormatPercent writes a fraction: 0.032 is "3.2 %".
func FormatPercent(fraction float64) string {
	if math.IsNaN(fraction) || fraction < 0 {
		fraction = 0
	}
	percent := fraction * 100
	if percent < 9.95 {
		return strconv.FormatFloat(percent, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(percent, 'f', 0, 64) + " %"
}

// FormatCores writes a number of cores, which a CPU limit can make a fraction: "1 core", "0.5 cores".
func FormatCores(cores float64) string {
	n := strconv.FormatFloat(cores, 'f', -1, 64)
	if n == "1" {
		return "1 core"
	}
	return n + " cores"
}

// FormatUptime writes seconds in their two largest units: "12 d 4 h", "3 min 5 s".
func FormatUptime(seconds int64) string {
	const minute, hour, day = 60, 60 * 60, 24 * 60 * 60
	pair := func(large int64, largeUnit string, small int64, smallUnit string) string {
		s := strconv.FormatInt(large, 10) + largeUnit
		if small > 0 {
			s += " " + strconv.FormatInt(small, 10) + smallUnit
		}
		return s
	}
	switch s := max(seconds, 0); {
	case s >= day:
		return pair(s/day, " d", s%day/hour, " h")
	case s >= hour:
		return pair(s/hour, " h", s%hour/minute, " min")
	case s >= minute:
		return pair(s/minute, " min", s%minute, " s")
	default:
		return strconv.FormatInt(s, 10) + " s"
	}
}

// FormatAgo writes how long ago something was: "just now", "4 minutes ago".
func FormatAgo(d time.Duration) string {
	count := func(n int, unit string) string {
		if n != 1 {
			unit += "s"
		}
		return strconv.Itoa(n) + " " + unit + " ago"
	}
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return count(int(d/time.Second), "second")
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour")
	default:
		return count(int(d/(24*time.Hour)), "day")
	}
}

// fraction is a part of a whole for a gauge, kept between 0 and 1 whatever the host says.
func fraction(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return clamp(float64(part) / float64(whole))
}

func clamp(f float64) float64 {
	if !(f > 0) { // NaN included
		return 0
	}
	return min(f, 1)
}

// tagHues is how many colours the style sheet has for tags: data-hue 0 to 7.
const tagHues = 8

// tagHue gives a tag its colour: always the same one for the same tag, on every page.
func tagHue(tag string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(tag)) // a hash takes everything
	return strconv.Itoa(int(h.Sum32() % tagHues))
}
