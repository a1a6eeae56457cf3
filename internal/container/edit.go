package container

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"unicode/utf8"

	"berth/internal/audit"
	"berth/internal/fault"
	"berth/internal/pve"
	"berth/internal/session"
)

// Edit changes what people write about a container. What is absent stays as it is.
type Edit struct {
	Choice
	Tags        *[]string `json:"tags,omitempty" doc:"all tags that it is to have: letters, digits and _ + . - each; Proxmox VE writes them in lower case"`
	Description *string   `json:"description,omitempty" doc:"Markdown, at most 8192 characters; empty takes it away"`
	Digest      string    `json:"digest,omitempty" doc:"of the configuration that was edited: if there is a newer one, nothing is changed and the code is changed_meanwhile"`
}

// tagPattern is PVE::JSONSchema::pve_verify_tag's.
var tagPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_+.-]*$`)

// maxTagsWritten bounds the tags that one change writes.
const maxTagsWritten = 64

// Validate reports every field that can't be right.
func (e Edit) Validate() error {
	fields := map[string]string{}
	if e.Tags != nil {
		if len(*e.Tags) > maxTagsWritten {
			fields["tags"] = "At most " + strconv.Itoa(maxTagsWritten) + " tags are allowed"
		}
		for _, tag := range *e.Tags {
			if !tagPattern.MatchString(tag) || len(tag) > maxTag {
				fields["tags"] = "A tag has at most " + strconv.Itoa(maxTag) + " letters, digits and the signs _ + . -, and begins with a letter, a digit or _"
			}
		}
	}
	if e.Description != nil && utf8.RuneCountInString(*e.Description) > maxDescription {
		fields["description"] = "The description has more than " + strconv.Itoa(maxDescription) + " characters"
	}
	if len(e.Digest) > 64 {
		fields["digest"] = "This is not a digest"
	}
	return fault.InvalidInput(fields)
}

// Edit is the authenticated action that changes tags and description. It needs VM.Config.Options there. The answer is the
// container as it is then.
func (d *Details) Edit(ctx context.Context, caller session.Caller, in Edit) (Detail, error) {
	if err := in.Validate(); err != nil {
		return Detail{}, err
	}
	c, err := d.find(ctx, caller, in.Choice)
	if err != nil {
		return Detail{}, err
	}
	if in.Tags == nil && in.Description == nil {
		return d.Get(ctx, caller, in.Choice)
	}
	change := pve.ConfigChange{Tags: in.Tags, Description: in.Description, Digest: in.Digest}
	err = d.call(ctx, caller, c, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		return host.SetContainerConfig(ctx, with, c.Node, c.VMID, change)
	})
	err = editFault(err)
	d.record(ctx, caller, c, in, err)
	if err != nil {
		return Detail{}, err
	}
	d.containers.Refresh(ctx, caller, c.NodeID, c.VMID)
	return d.Get(ctx, caller, in.Choice)
}

// editFault makes a fault of what Proxmox VE says to a change. What isn't about the change itself stays as it is.
func editFault(err error) error {
	var refused *pve.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Kind {
	case pve.KindChanged:
		return &fault.Error{Kind: fault.Conflict, Code: "changed_meanwhile", Cause: err,
			Message: "Somebody has changed this container's configuration meanwhile.", Hint: "Look at it again before you change it."}
	case pve.KindInvalidParameters:
		if why := refused.Fields["tags"]; why != "" {
			return fault.InvalidInput(map[string]string{"tags": "Proxmox VE refused them: " + why})
		}
		if why := refused.Fields["description"]; why != "" {
			return fault.InvalidInput(map[string]string{"description": "Proxmox VE refused it: " + why})
		}
		return &fault.Error{Kind: fault.Conflict, Code: "refused_by_proxmox", Message: "Proxmox VE refused this: " + refused.Message, Cause: err}
	case pve.KindServer, pve.KindNotFound, pve.KindUnsupported:
		return &fault.Error{Kind: fault.Conflict, Code: "refused_by_proxmox", Message: "Proxmox VE refused this: " + refused.Message, Cause: err}
	}
	return err
}

// record writes an edit down, and what Proxmox VE made of it.
func (d *Details) record(ctx context.Context, caller session.Caller, c *Container, in Edit, err error) {
	entry := audit.Entry{Identity: caller.Identity, Action: audit.ContainerEdit, Target: c.Target(d.nodeName(ctx, caller, c)), Result: audit.OK}
	switch {
	case in.Description == nil:
		entry.Detail = "tags"
	case in.Tags == nil:
		entry.Detail = "description"
	default:
		entry.Detail = "tags and description"
	}
	if err != nil {
		entry.Result = audit.Failed
		if pve.IsKind(err, pve.KindForbidden) {
			entry.Result = audit.Refused
		}
		if f := fault.As(err); f != nil {
			f.ID = fault.NewID()
			entry.ErrorID = f.ID
		}
	}
	d.audit.Record(ctx, entry)
}
