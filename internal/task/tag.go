package task

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"berth/internal/pve"
	"berth/internal/session"
)

const (
	// maxTags bounds the tags of one change, and maxTag the length of one.
	maxTags = 50
	maxTag  = 64
)

// tagForm is what Proxmox VE takes as a tag (pve-tag in JSONSchema.pm of pve-common).
var tagForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_+.-]*$`)

// Words are tags, which forms send as one text.
type Words []string

// UnmarshalJSON takes a list, or a text whose words are separated by blanks, commas or semicolons.
func (w *Words) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		*w = ParseWords(text)
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(w))
}

// ParseWords takes a text apart at blanks, commas and semicolons.
func ParseWords(text string) Words {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n\r,;", r) })
}

func (o ChangeOptions) tagProblems(action Action, fields map[string]string) {
	lists := map[string]Words{"addTags": o.AddTags, "removeTags": o.RemoveTags}
	if o.Tags != nil {
		lists["tags"] = *o.Tags
		if len(o.AddTags)+len(o.RemoveTags) > 0 {
			fields["tags"] = "Give all tags, or those to add and to remove"
		}
	}
	some := o.Tags != nil
	for name, tags := range lists {
		some = some || len(tags) > 0
		switch {
		case action != Tag && (len(tags) > 0 || name == "tags"):
			fields[name] = "Only tag takes tags"
		case len(tags) > maxTags:
			fields[name] = fmt.Sprintf("At most %d tags", maxTags)
		}
		for _, tag := range tags {
			if len(tag) > maxTag || !tagForm.MatchString(tag) {
				fields[name] = fmt.Sprintf("A tag has letters, digits, and the signs - _ . + within, and at most %d characters", maxTag)
			}
		}
	}
	if action == Tag && !some {
		fields["addTags"] = "Give at least one tag"
	}
}

// tagged are a container's tags after a change.
func (o ChangeOptions) tagged(before []string) []string {
	if o.Tags != nil {
		return *o.Tags
	}
	has := func(list []string, tag string) bool {
		return slices.ContainsFunc(list, func(other string) bool { return strings.EqualFold(tag, other) })
	}
	after := slices.DeleteFunc(slices.Clone(before), func(tag string) bool { return has(o.RemoveTags, tag) })
	for _, tag := range o.AddTags {
		if !has(after, tag) {
			after = append(after, tag)
		}
	}
	return after
}

// sameTags compares tags as Proxmox VE does by default: whatever their order and case.
func sameTags(a, b []string) bool {
	canonical := func(tags []string) []string {
		list := make([]string, 0, len(tags))
		for _, tag := range tags {
			list = append(list, strings.ToLower(tag))
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	return slices.Equal(canonical(a), canonical(b))
}

// tag changes the tags of a container whose lock is taken. The change is written once, and only over the configuration that
// it was made from.
func (s *Service) tag(ctx context.Context, caller session.Caller, c change) (Operation, error) {
	op := c.op
	var want []string
	sent := false
	var lost error
	err := s.o.Nodes.Call(ctx, caller, c.door, func(ctx context.Context, host *pve.Host, with pve.Credentials) error {
		if sent {
			return lost
		}
		config, err := host.ContainerConfig(ctx, with, op.Node, op.VMID)
		if err != nil {
			return err
		}
		if config.Lock != "" {
			return fits(Tag, "", config.Lock, false)
		}
		if want = c.options.tagged(config.Tags); sameTags(want, config.Tags) {
			return nil
		}
		if err := s.o.Alive(ctx, caller); err != nil {
			return err
		}
		ctx, cancel, err := s.secure(ctx, op)
		if err != nil {
			return err
		}
		defer cancel()
		lost = host.SetContainerConfig(ctx, with, op.Node, op.VMID, pve.ConfigChange{Tags: &want, Digest: config.Digest})
		sent = lost != nil && mayHaveArrived(lost)
		return lost
	})
	switch {
	case err == nil:
		return s.tagsSet(ctx, caller, op)
	case !sent:
		return op, s.refused(ctx, op, err)
	}
	s.lost(ctx, op, err)
	for range searchBriefly {
		if s.o.Pause(ctx, pollEvery) != nil {
			break
		}
		var config pve.ContainerConfig
		err := s.ask(ctx, caller, &op, c.door, func(ctx context.Context, host *pve.Host, with pve.Credentials) (err error) {
			config, err = host.ContainerConfig(ctx, with, op.Node, op.VMID)
			return err
		})
		if err == nil && sameTags(config.Tags, want) {
			return s.tagsSet(ctx, caller, op)
		}
	}
	op.State, op.Error, op.End = Unknown, "The connection broke, and the container does not have the tags. Look at it before you try again", s.o.Now()
	s.conclude(ctx, op, Ending{State: op.State, Error: op.Error})
	return op, nil
}

func (s *Service) tagsSet(ctx context.Context, caller session.Caller, op Operation) (Operation, error) {
	s.finish(ctx, caller, op, Ending{State: Done})
	op.State, op.End = Done, s.o.Now()
	return op, nil
}
