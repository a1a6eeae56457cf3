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
		if (numeric && one.VMID == vmid || one.Name == rest) && (!qualified || isAt(one, node, fleet.Nodes)) {
			found = append(found, one)
		}
	}
	if unread := unreadNodes(fleet, node, qualified); len(unread) > 0 && len(found) < 2 {
		return client.Container{}, unreadError(ref, found, unread)
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
		fmt.Fprintf(&b, "\n  %s  %s on %s", reference(one, found, fleet.Nodes), word(one.Name), word(one.Node))
	}
	return client.Container{}, usageError{fmt.Errorf("%s", b.String())}
}

// unreadNodes are the names of the nodes that may have what was asked for, but of which nothing is known. A node that was
// named by its cluster member is known, or there would be no member to name.
func unreadNodes(fleet client.Fleet, node string, qualified bool) []string {
	var names []string
	for _, n := range fleet.Nodes {
		if n.Unknown() && (!qualified || n.NodeID == node || strings.EqualFold(n.Name, node)) {
			names = append(names, client.Printable(n.Name))
		}
	}
	return names
}

// unreadError says that it can't be told which container is meant, or whether there is one.
func unreadError(ref string, found []client.Container, unread []string) error {
	message := fmt.Sprintf("Whether there is a container %q can't be told: %s can't be read.", client.Printable(ref), strings.Join(unread, ", "))
	if len(found) == 1 {
		message = fmt.Sprintf("%q may also be a container of %s, which can't be read. Say NODE/VMID: %s is known.",
			client.Printable(ref), strings.Join(unread, ", "), called(found[0]))
	}
	return &fault.Error{Kind: fault.Unreachable, Message: message}
}

// reference is how a container can be named so that none of the others is meant: by the name of its node, or by its id where
// several have that name.
func reference(one client.Container, others []client.Container, nodes []client.Node) string {
	name := nodeNames(nodes)[one.NodeID]
	same := 0
	for _, other := range others {
		if other.VMID == one.VMID && isAt(other, name, nodes) {
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
