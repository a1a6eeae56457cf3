package pve

import (
	"context"
	"crypto/tls"
	"time"
)

// NewTestCertificate is a self-signed certificate for 127.0.0.1.
func NewTestCertificate() tls.Certificate { return newCert(newKey(), time.Now()) }

// SkipPauses lets a client repeat its calls without waiting.
func SkipPauses(c *Client) {
	c.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
}
