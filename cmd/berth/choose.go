package main

import (
	"fmt"
	"strconv"
	"strings"

	"berth/internal/client"
	"berth/internal/fault"
)

// choose finds the container that somebody named: by its name, its VMID, or NODE/VMID, where the node goes by its name in
// Berth, its id or its cluster member.
func choose(fleet client.Fleet, ref string) (client.Container, error) {
	names := nodeNames(fleet)
	node, rest, qualified := strings.Cut(ref, "/")
	if !qualified {
		node, rest = "", ref
	}
	vmid, err := strconv.Atoi(rest)
	numeric := err == nil
	if ref == "" || qualified && (node == "" || rest == "") {
		return client.Container{}, usageError{fmt.Errorf("%q is not a container: give its NAME, its VMID or NODE/VMID", ref)}
	}
	var found []client.Container
	for _, one := range fleet.Items {
		if (numeric && one.VMID == vmid || one.Name == rest) && (!qualified || isAt(one, node, names)) {
			found = append(found, one)
		}
	}
	switch len(found) {
	case 0:
		return client.Container{}, &fault.Error{Kind: fault.NotFound, Message: fmt.Sprintf("There is no container %q.", client.Printable(ref))}
	case 1:
		return found[0], nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q may be any of these containers; name one of them:", client.Printable(ref))
	for _, one := range found {
		fmt.Fprintf(&b, "\n  %s  %s on %s", reference(one, found, names), word(one.Name), word(one.Node))
	}
	return client.Container{}, usageError{fmt.Errorf("%s", b.String())}
}

// reference is how a container can be named so that none of the others is meant: by the name of its node, or by its id where
// several have that name.
func reference(one client.Container, others []client.Container, names map[string]string) string {
	name := names[one.NodeID]
	same := 0
	for _, other := range others {
		if other.VMID == one.VMID && isAt(other, name, names) {
			same++
		}
	}
	if name == "" || same > 1 || strings.Contains(name, "/") {
		name = one.NodeID
	}
	return client.Printable(name) + "/" + strconv.Itoa(one.VMID)
}

// called is a container for people: "101 nextcloud on pve1".
func called(one client.Container) string {
	text := strconv.Itoa(one.VMID)
	if one.Name != "" {
		text += " " + client.Printable(one.Name)
	}
	return text + " on " + word(one.Node)
}
