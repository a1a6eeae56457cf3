package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Task is a task of Proxmox VE's.
type Task struct {
	NodeID  string    `json:"nodeId"`
	UPID    string    `json:"upid"`
	Label   string    `json:"label"` // what it does, in words
	VMID    int       `json:"vmid"`
	Node    string    `json:"node"` // cluster member
	Status  string    `json:"status"`
	Exit    string    `json:"exit"`
	Started time.Time `json:"startedAt"`
}

// Running tells whether the task has not ended.
func (t Task) Running() bool { return t.Status == "running" }

// OK tells whether the task did what it was to do.
func (t Task) OK() bool { return t.Status == "ok" || t.Status == "warnings" }

// Line is a line of a task's log.
type Line struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

// Log is a part of a task's log. When its Task has ended, Total is how many lines there are.
type Log struct {
	Lines []Line
	Total int
	Task  Task
}

// Tasks are the running and the recent tasks of all nodes: those that run first, then the newest.
func (c *Client) Tasks(ctx context.Context) ([]Task, error) {
	var out struct{ Items []Task }
	err := c.call(ctx, http.MethodGet, "/api/tasks", nil, nil, &out)
	return out.Items, err
}

// TaskLog is a part of a task's log, with so many lines left out at its beginning.
func (c *Client) TaskLog(ctx context.Context, nodeID, upid string, start int) (Log, error) {
	var out Log
	path := "/api/tasks/" + url.PathEscape(nodeID) + "/" + url.PathEscape(upid) + "/log"
	err := c.call(ctx, http.MethodGet, path, url.Values{"start": {strconv.Itoa(start)}}, nil, &out)
	return out, err
}
