package sim

import (
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// The version that every member reports.
const (
	release = "9.2"
	version = "9.2.3"
	repoID  = "b2e5c1f0a97d3486"
)

// clusterEndpoints are version, cluster and members.
func clusterEndpoints() []endpoint {
	auditsAll := func(c *call) error { return c.need("/", "Sys.Audit") }
	reportVersion := func(*call) (any, error) {
		return map[string]any{"version": version, "release": release, "repoid": repoID}, nil
	}
	return []endpoint{
		{method: "GET", path: "/version", run: reportVersion},
		{method: "GET", path: "/nodes/{node}/version", run: reportVersion},
		{method: "GET", path: "/cluster/status", check: auditsAll, run: clusterStatus},
		{method: "GET", path: "/cluster/config/join", check: auditsAll, params: []param{{name: "node", kind: "string"}}, run: joinInfo},
		{method: "GET", path: "/nodes", run: listNodes},
		{method: "GET", path: "/nodes/{node}", run: nodeIndex},
		{method: "GET", path: "/nodes/{node}/certificates/info", run: certificateInfo},
		{
			method: "GET", path: "/nodes/{node}/time", run: nodeTime,
			check: func(c *call) error { return c.need("/nodes/"+c.param("node"), "Sys.Audit") },
		},
	}
}

// online tells whether the cluster sees a member.
func (m *member) online() bool { return !m.stopped.Load() }

// quorate tells whether more than half of the members are there.
func (d *Datacenter) quorate() bool {
	online := 0
	for _, m := range d.members {
		online += number(m.online())
	}
	return online*2 > len(d.members)
}

// clusterStatus is API2/Cluster.pm, get_status: one row for the cluster, if there is one, and one for each member.
func clusterStatus(c *call) (any, error) {
	rows := []map[string]any{}
	if name := c.dc.options.Name; name != "" {
		rows = append(rows, map[string]any{
			"type": "cluster", "id": "cluster", "name": name, "version": len(c.dc.members), "nodes": len(c.dc.members), "quorate": number(c.dc.quorate()),
		})
	}
	for _, m := range c.dc.members {
		id := 0
		if c.dc.options.Name != "" {
			id = m.number
		}
		rows = append(rows, map[string]any{
			"type": "node", "id": "node/" + m.name, "name": m.name, "nodeid": id, "ip": m.address(),
			"local": number(m == c.host.member), "online": number(m.online()), "level": "",
		})
	}
	return rows, nil
}

// joinInfo is API2/ClusterConfig.pm, join_info, which dies on a standalone host.
func joinInfo(c *call) (any, error) {
	if c.dc.options.Name == "" {
		return nil, plain("node is not in a cluster, no join info available!")
	}
	preferred := c.host.member.name
	if asked := c.param("node"); asked != "" {
		if c.dc.member(asked) == nil {
			return nil, plain("unknown node '" + asked + "'")
		}
		preferred = asked
	}
	nodes := []map[string]any{}
	for _, m := range c.dc.members {
		nodes = append(nodes, map[string]any{
			"name": m.name, "nodeid": m.number, "pve_addr": m.address(), "pve_fp": m.certificate().fingerprint(),
			"quorum_votes": 1, "ring0_addr": m.address(),
		})
	}
	return map[string]any{
		"nodelist": nodes, "preferred_node": preferred, "config_digest": fmt.Sprintf("%x", c.dc.id[:20]),
		"totem": map[string]any{"cluster_name": c.dc.options.Name, "version": "2", "config_version": fmt.Sprint(len(c.dc.members)), "secauth": "on"},
	}, nil
}

// listNodes shows every member to everybody; figures to who may audit the member (API2/Nodes.pm, index).
func listNodes(c *call) (any, error) {
	list := []map[string]any{}
	for _, m := range c.dc.members {
		row := map[string]any{"node": m.name, "id": "node/" + m.name, "type": "node", "status": "offline", "ssl_fingerprint": m.certificate().fingerprint()}
		if m.online() {
			row["status"] = "online"
			if c.dc.can(c.who, "/nodes/"+m.name, "Sys.Audit") {
				for name, value := range c.dc.nodeFigures(m, c.now) {
					row[name] = value
				}
			}
		}
		list = append(list, row)
	}
	return list, nil
}

func nodeIndex(*call) (any, error) {
	list := []map[string]any{}
	for _, name := range []string{"certificates", "lxc", "status", "storage", "tasks", "time", "version"} {
		list = append(list, map[string]any{"name": name})
	}
	return list, nil
}

// certificateInfo is API2/Certificates.pm, info. Anybody signed in may read it.
func certificateInfo(c *call) (any, error) {
	m := c.dc.member(c.param("node"))
	leaf := m.certificate().leaf
	subject := "/OU=" + leaf.Subject.OrganizationalUnit[0] + "/O=" + leaf.Subject.Organization[0] + "/CN=" + leaf.Subject.CommonName
	san := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		san = append(san, ip.String())
	}
	return []map[string]any{{
		"filename": "pve-ssl.pem", "fingerprint": m.certificate().fingerprint(), "subject": subject, "issuer": subject,
		"notbefore": leaf.NotBefore.Unix(), "notafter": leaf.NotAfter.Unix(), "san": san,
		"public-key-type": "id-ecPublicKey", "public-key-bits": 256,
		"pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
	}}, nil
}

func nodeTime(c *call) (any, error) {
	utc := c.clock.Unix()
	return map[string]any{"timezone": "UTC", "time": utc, "localtime": utc}, nil
}

// uptime is how long a member has been running.
func (m *member) uptime(now time.Time) int64 { return int64(now.Sub(m.started) / time.Second) }
