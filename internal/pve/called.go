package pve

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Called is a call that is over, for who counts them or makes traces of them.
type Called struct {
	Method string
	// Path is below /api2/json, with {} for what the call was about: "nodes/{}/lxc/{}/config".
	Path string
	// Node is what WithNode said; empty without.
	Node   string
	Status int // 0 without an answer
	// Kind is what went wrong; empty if nothing did.
	Kind string
	Took time.Duration
}

type nodeKey struct{}

// WithNode notes for whoever observes calls which node they are made for, by its id.
func WithNode(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, nodeKey{}, id)
}

// called tells of a call that is over.
func (h *Host) called(ctx context.Context, c *call, began time.Time, a answer, err error) {
	told := Called{Method: c.method, Path: c.template(), Status: a.status, Took: time.Since(began)}
	told.Node, _ = ctx.Value(nodeKey{}).(string)
	var refused *Error
	switch {
	case errors.As(err, &refused):
		told.Status, told.Kind = refused.Status, refused.Kind.String()
	case err != nil:
		told.Kind = "not sent"
	}
	h.client.options.Observe(ctx, told)
}

// pathWords are the words of the API that paths are made of. Whatever else stands in a path names something.
var pathWords = map[string]bool{}

func init() {
	for word := range strings.FieldsSeq(`access acl auth-url certificates cluster config current delete domains info interfaces log login lxc nextid nodes
		openid permissions reboot resources resume rrddata shutdown start status stop storage suspend tasks ticket token users version`) {
		pathWords[word] = true
	}
}

// template is the path without what the call was about.
func (c *call) template() string {
	words := make([]string, len(c.path))
	for i, word := range c.path {
		if words[i] = word; !pathWords[word] {
			words[i] = "{}"
		}
	}
	return strings.Join(words, "/")
}
