package container

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"berth/internal/pve"
)

func TestReadConfig(t *testing.T) {
	c := readConfig(pve.ContainerConfig{
		RootFS: "tank:subvol-7-disk-0,size=1.5T", Memory: 0, Swap: -1, Startup: "order=3,down=60", Features: "keyctl=1,nesting=1,fuse=0,mount=nfs;cifs",
		Nameserver: "192.0.2.1, 2001:db8::1", Description: "a\r\n\u202eb\x1b[31m\u200d\n\n",
		Options: map[string]string{
			"mp10": "/tank/media,mp=/media,ro=1", "mp2": "tank:subvol-7-disk-1,mp=/srv,backup=1,size=512M", "mp": "x", "mpx": "y",
			"net1": "name=eth1,bridge=vmbr1,hwaddr=BC:24:11:00:00:65,ip=manual,ip6=2001:db8::5/64,gw6=2001:db8::1,tag=30,mtu=9000,rate=12.5,link_down=1",
			"net0": "name=eth0,bridge=vmbr0,ip=192.0.2.5/24,gw=192.0.2.1,firewall=1,tag=-1,rate=NaN", "dev0": "/dev/dri/renderD128,gid=104", "dev1": "path=/dev/kvm",
		},
	})
	want := `{"ostype":"","memory":536870912,"swap":0,"unprivileged":false,"onboot":false,"protection":false,"startup":{"order":3,"up":-1,"down":60},` +
		`"features":["keyctl","nesting","mount nfs, cifs"],"nameservers":["192.0.2.1","2001:db8::1"],"tags":[],"description":"a\nb[31m` + "\u200d" + `",` +
		`"mounts":[{"id":"rootfs","source":"tank:subvol-7-disk-0","path":"/","size":1649267441664,"backup":true},` +
		`{"id":"mp2","source":"tank:subvol-7-disk-1","path":"/srv","size":536870912,"backup":true},{"id":"mp10","source":"/tank/media","path":"/media","readOnly":true}],` +
		`"networks":[{"id":"net0","name":"eth0","bridge":"vmbr0","ip":"192.0.2.5/24","gateway":"192.0.2.1","firewall":true},` +
		`{"id":"net1","name":"eth1","bridge":"vmbr1","mac":"bc:24:11:00:00:65","ip":"manual","ip6":"2001:db8::5/64","gateway6":"2001:db8::1","vlan":30,"mtu":9000,"rate":12.5,"linkDown":true}],` +
		`"devices":[{"id":"dev0","path":"/dev/dri/renderD128"},{"id":"dev1","path":"/dev/kvm"}],"digest":""}`
	got, err := json.Marshal(c)
	if err != nil || string(got) != want {
		t.Errorf("%s\nwant %s, %v", got, want, err)
	}
	if got := fmt.Sprint(configuredInterfaces(c)); got != "[{eth0  [192.0.2.5/24] true} {eth1 bc:24:11:00:00:65 [2001:db8::5/64] true}]" {
		t.Errorf("static addresses %s", got)
	}
	if c.Startup = readStartup(""); c.Startup != nil {
		t.Errorf("no order: %+v", c.Startup)
	}
	if s := readStartup("7"); s == nil || *s != (Startup{7, -1, -1}) {
		t.Errorf("an order alone: %+v", s)
	}
}

func TestConfigHasBounds(t *testing.T) {
	options := map[string]string{}
	for i := range 2000 {
		for _, name := range []string{"net", "mp", "dev"} {
			options[fmt.Sprint(name, i)] = "a,b=c"
		}
	}
	c := readConfig(pve.ContainerConfig{Options: options, Description: strings.Repeat("ä", 10000)})
	if len(c.Networks) != maxParts || len(c.Mounts) != maxParts || len(c.Devices) != maxParts || len([]rune(c.Description)) != maxDescription {
		t.Errorf("%d networks, %d mounts, %d devices, %d characters", len(c.Networks), len(c.Mounts), len(c.Devices), len([]rune(c.Description)))
	}
	var many []pve.Interface
	for i := range 1000 {
		many = append(many, pve.Interface{Name: fmt.Sprint("veth", i)})
	}
	if got := readInterfaces(many); len(got) != maxInterfaces {
		t.Errorf("%d interfaces", len(got))
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("name=eth0,bridge=vmbr0,ip=192.0.2.5/24,tag=30,rate=1e400", "order=1,up=,down=x", "# Hello\n\u202e")
	f.Add("local:vm-1,size=9999999999T,mp=/,ro=yes", ",,=,", "")
	f.Fuzz(func(t *testing.T, line, startup, text string) {
		c := readConfig(pve.ContainerConfig{
			RootFS: line, Features: line, Startup: startup, Description: text,
			Options: map[string]string{"net0": line, "mp0": line, "dev0": line, line: startup},
		})
		for _, m := range c.Mounts {
			if m.Size < 0 {
				t.Fatalf("%+v", m)
			}
		}
		for _, n := range c.Networks {
			if n.VLAN < 0 || n.MTU < 0 || !(n.Rate >= 0) {
				t.Fatalf("%+v", n)
			}
		}
		if strings.ContainsFunc(c.Description, func(r rune) bool { return r != '\n' && r != '\t' && (unicode.IsControl(r) || r == '\u202e') }) {
			t.Fatalf("%q", c.Description)
		}
		if _, err := json.Marshal(c); err != nil {
			t.Fatal(err)
		}
	})
}

// TestGraphOfOddPoints: a host's points may be in any order, twice, too many or nowhere in time.
func TestGraphOfOddPoints(t *testing.T) {
	at := func(minute int, cpu float64) pve.Point {
		return pve.Point{Time: time.Unix(1800000000+int64(minute)*60, 0), CPU: pve.Figure{Value: cpu, Known: true}, MaxCPU: pve.Figure{Value: float64(minute), Known: true}}
	}
	g := newGraph("week", []pve.Point{at(3, 0.3), {}, at(1, 0.1), at(3, 0.4), {Time: time.Unix(1800000120, 0)}}, []pve.Point{at(1, 0.5), at(9, 0.9)})
	if !slices.Equal(g.Times, []int64{1800000060, 1800000120, 1800000180}) || g.Step != 60 || g.CPU.Limit != 3 {
		t.Errorf("%v every %d s, limit %v", g.Times, g.Step, g.CPU.Limit)
	}
	if v := g.CPU.Values; *v[0] != 0.1 || v[1] != nil || *v[2] != 0.3 {
		t.Error("values")
	}
	if p := g.CPU.Peaks; *p[0] != 0.5 || p[1] != nil || p[2] != nil {
		t.Error("peaks")
	}
	var many []pve.Point
	for i := range 5000 {
		many = append(many, at(i, 1))
	}
	if g := newGraph("hour", many, nil); len(g.Times) != maxPoints || g.Times[maxPoints-1] != many[4999].Time.Unix() || g.CPU.Peaks != nil {
		t.Errorf("%d points", len(g.Times))
	}
	if g := newGraph("hour", nil, nil); len(g.Times) != 0 || g.Step != 0 || g.CPU.Values == nil {
		t.Errorf("%+v", g)
	}
}
