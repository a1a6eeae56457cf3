package view

import "strconv"

// result says how many containers are shown, for eyes and for screen readers.
func (d Dashboard) result() string {
	switch {
	case d.Total == 0:
		return ""
	case d.More > 0:
		return "The first " + strconv.Itoa(len(d.Rows)) + " of " + count(len(d.Rows)+d.More) + ". Search to see others."
	case d.filtered():
		return strconv.Itoa(len(d.Rows)) + " of " + count(d.Total)
	default:
		return count(d.Total)
	}
}

func count(n int) string {
	if n == 1 {
		return "1 container"
	}
	return strconv.Itoa(n) + " containers"
}

// statusKind is the part of a status that has a colour and a shape of its own.
func (c *Container) statusKind() string {
	switch c.Status {
	case "running", "stopped":
		return c.Status
	default:
		return "other"
	}
}

// rowID names the row of a container, so that a refresh changes that row and no other.
func (c *Container) rowID() string {
	return "ct-" + c.NodeID + "-" + strconv.Itoa(c.VMID)
}

// gaugeLevel is how full a gauge is, as the style sheet colours it.
func gaugeLevel(f float64) string {
	switch {
	case f >= 0.95:
		return "full"
	case f >= 0.8:
		return "high"
	default:
		return "calm"
	}
}

func gaugeWidth(f float64) string {
	return strconv.FormatFloat(f*100, 'f', 1, 64) + "%"
}
