package redis

// NewSmallThrottle is NewThrottle with fewer counters.
func NewSmallThrottle(c *Client, most int) *Throttle { return &Throttle{client: c, most: most} }
