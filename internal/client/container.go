package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Container is one container. Its JSON is what `berth ls --json` prints.
type Container struct {
	NodeID    string   `json:"nodeId"`
	Node      string   `json:"node"` // cluster member
	VMID      int      `json:"vmid"`
	Name      string   `json:"name"`
	Status    string   `json:"status"`
	CPU       float64  `json:"cpu"`
	MaxCPU    float64  `json:"maxcpu"`
	Mem       int64    `json:"mem"`
	MaxMem    int64    `json:"maxmem"`
	Disk      int64    `json:"disk"`
	MaxDisk   int64    `json:"maxdisk"`
	Uptime    int64    `json:"uptime"`
	Tags      []string `json:"tags"`
	Addresses []string `json:"addresses"`
	Lock      string   `json:"lock"`
	Template  bool     `json:"template"`
}

// Node is one of the caller's nodes, as the last reading found it.
type Node struct {
	NodeID  string `json:"nodeId"`
	Name    string `json:"name"`
	Problem string `json:"problem"` // why its containers are those last known; empty when they are current
	// Code is the problem's own; ReadAt is when its containers were read last, the zero time if nothing is known of them.
	Code   string    `json:"code,omitzero"`
	ReadAt time.Time `json:"readAt,omitzero"`
	// Through names another node of the same cluster that its containers are read through while it has a problem; ListedAs is
	// the id of the node that they are listed with.
	Through  string `json:"through,omitzero"`
	ListedAs string `json:"listedAs"`
}

// Unknown tells whether the node may have containers that are not in the list. One that can be used with a sign-in alone
// has none for who comes with an access token.
func (n Node) Unknown() bool {
	return n.Problem != "" && n.ReadAt.IsZero() && n.Through == "" && n.Code != "sign_in_needed"
}

// Leads tells whether a container is one of the node's.
func (n Node) Leads(to Container) bool {
	return n.NodeID == to.NodeID || n.ListedAs != "" && n.ListedAs == to.NodeID
}

// Query chooses containers; what is empty chooses nothing.
type Query struct {
	Text, NodeID, Status, Tag string
}

// Fleet is what a query found.
type Fleet struct {
	Items []Container
	Nodes []Node
}

// maxPages bounds how many pages are asked for, of a thousand containers each.
const maxPages = 1000

// Containers are all containers that a query chooses, by VMID.
func (c *Client) Containers(ctx context.Context, q Query) (Fleet, error) {
	values := url.Values{}
	for name, value := range map[string]string{"q": q.Text, "node": q.NodeID, "status": q.Status, "tag": q.Tag} {
		if value != "" {
			values.Set(name, value)
		}
	}
	fleet := Fleet{Items: []Container{}, Nodes: []Node{}}
	for range maxPages {
		var page struct {
			Items []Container
			Nodes []Node
			Next  string
		}
		if err := c.call(ctx, http.MethodGet, "/api/containers", values, nil, &page); err != nil {
			return Fleet{}, err
		}
		fleet.Items, fleet.Nodes = append(fleet.Items, page.Items...), page.Nodes
		if page.Next == "" {
			return fleet, nil
		}
		values.Set("cursor", page.Next)
	}
	return Fleet{}, c.strange("its list of containers has no end")
}

// Operation is a change of a container on its way.
type Operation struct {
	ID     string `json:"id"`
	NodeID string `json:"nodeId"`
	VMID   int    `json:"vmid"`
	Name   string `json:"name"`
	Action string `json:"action"`
	State  string `json:"state"`
	UPID   string `json:"upid"`
	Error  string `json:"error,omitempty"`
}

// Ended tells whether nothing more will happen.
func (o Operation) Ended() bool {
	switch o.State {
	case "waiting", "sending", "running":
		return false
	}
	return true
}

// Change begins a change of a container: start, shutdown, stop or reboot. Patience, in seconds, is how long a shutdown or
// reboot waits for the container; 0 leaves it to Berth.
func (c *Client) Change(ctx context.Context, of Container, action string, patience int) (Operation, error) {
	in := struct {
		Timeout int `json:"timeout,omitempty"`
	}{patience}
	var out Operation
	path := "/api/containers/" + url.PathEscape(of.NodeID) + "/" + strconv.Itoa(of.VMID) + "/" + action
	err := c.call(ctx, http.MethodPost, path, nil, in, &out)
	return out, err
}

// Operation tells how a change stands.
func (c *Client) Operation(ctx context.Context, id string) (Operation, error) {
	var out Operation
	err := c.call(ctx, http.MethodGet, "/api/operations/"+url.PathEscape(id), nil, nil, &out)
	return out, err
}
