package sim

import (
	"net/url"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	f := newFixture(t, cluster())
	conf := get[object](f, "alice@pve", "GET /nodes/pve2/lxc/101/config")
	for key, want := range (object{
		"arch": "amd64", "cores": 4.0, "memory": 4096.0, "swap": 1024.0, "hostname": "nextcloud", "ostype": "debian",
		"rootfs": "local-lvm:vm-101-disk-0,size=32G", "unprivileged": 1.0, "features": "nesting=1", "onboot": 1.0,
		"tags": "cloud;family", "mp0": "local-lvm:vm-101-disk-1,mp=/var/www/data,backup=1,size=200G",
	}) {
		if conf[key] != want {
			t.Errorf("%s is %v (%T), want %v", key, conf[key], conf[key], want)
		}
	}
	if text, _ := conf["description"].(string); !strings.HasPrefix(text, "# Nextcloud\n") || !strings.HasSuffix(text, "`\n") {
		t.Errorf("description %q", text)
	}
	if digest, _ := conf["digest"].(string); len(digest) != 40 {
		t.Errorf("digest %q", digest)
	}
	for vmid, key := range map[string]string{"109": "lock", "113": "template"} {
		if conf := get[object](f, rootUser, "GET /nodes/pve2/lxc/"+vmid+"/config"); conf[key] == nil {
			t.Errorf("%s has no %s", vmid, key)
		}
	}
}

func TestChangeConfig(t *testing.T) {
	f := newFixture(t, Options{})
	must(f.dc.AddUser(User{ID: "net@pve", Password: "secret-net"}))
	must(f.dc.AddRole("NetAdmin", "VM.Config.Network", "VM.Audit"))
	must(f.dc.Grant(ACL{Path: "/vms", User: "net@pve", Role: "NetAdmin"}))
	read := func(key string) any { return get[object](f, rootUser, "GET /nodes/pve1/lxc/101/config")[key] }
	digest := read("digest").(string)

	const path = "PUT /nodes/pve1/lxc/101/config?"
	const locked = "PUT /nodes/pve1/lxc/109/config?"
	for _, c := range []struct {
		who, request string
		status       int
		reason       string
		field        string // of the parameter error
	}{
		{"alice@pve", path + "tags=x", 403, "Permission check failed (/vms/101, VM.Config.Disk|VM.Config.CPU|VM.Config.Memory|VM.Config.Network|VM.Config.Options)", ""},
		{"net@pve", path + "tags=x", 403, "Permission check failed (/vms/101, VM.Config.Options)", ""},
		{"net@pve", path + "nameserver=192.0.2.53", 200, "", ""},
		{"net@pve", path + "net1=name%3Deth1,bridge%3Dvmbr1", 200, "", ""},
		{"bob@pve", path + "features=fuse%3D1", 403, "Permission check failed (changing feature flags (except nesting) is only allowed for root@pam)", ""},
		{rootUser, path + "digest=" + digest, 500, "no options specified", ""},
		{rootUser, path + "tags=x&digest=" + digest, 500, "detected modified configuration - file changed by other user? Try again.", ""},
		{rootUser, locked + "tags=x", 500, "CT is locked (backup)", ""},
		{rootUser, path + "tags=%24%24", 400, "Parameter verification failed.", "tags"},
		{rootUser, path + "cores=0", 400, "Parameter verification failed.", "cores"},
		{rootUser, path + "net32=name%3Deth32", 400, "Parameter verification failed.", "net32"},
		{rootUser, path + "net007=name%3Deth7", 400, "Parameter verification failed.", "net007"},
		{rootUser, path + "mp0=local:1", 400, "Parameter verification failed.", "mp0"},
		{rootUser, path + "colour=red", 400, "Parameter verification failed.", "colour"},
		{rootUser, path + "delete=arch", 400, "Parameter verification failed.", "delete"},
		{rootUser, path + "delete=tags&tags=x", 400, "Parameter verification failed.", "delete"},
		{rootUser, path + "delete=nonsense", 400, "Parameter verification failed.", "delete"},
		{"bob@pve", path + "tags=Web,critical%20web&description=" + url.QueryEscape("# Hello\nworld"), 200, "", ""},
	} {
		a := f.call(c.who, c.request)
		if a.status != c.status || a.reason != c.reason {
			t.Errorf("%s as %s: %d %s %v, want %d %s", c.request, c.who, a.status, a.reason, a.body.Errors, c.status, c.reason)
		}
		if c.field != "" && a.body.Errors[c.field] == "" {
			t.Errorf("%s: errors %v, want one for %s", c.request, a.body.Errors, c.field)
		}
	}
	if read("tags") != "web;critical" || read("description") != "# Hello\nworld\n" {
		t.Errorf("tags %v, description %q", read("tags"), read("description"))
	}
	if read("digest") == digest {
		t.Error("the digest is the old one")
	}
	f.call(rootUser, path+"delete=tags,description")
	if read("tags") != nil || read("description") != nil {
		t.Error("what was deleted is still there")
	}
}

// TestPending: a running container takes some changes at its next start.
func TestPending(t *testing.T) {
	f := newFixture(t, Options{})
	const config = "/nodes/pve1/lxc/101/config"
	f.call(rootUser, "PUT "+config+"?hostname=cloud&memory=2048&delete=features")
	now, later := get[object](f, rootUser, "GET "+config+"?current=1"), get[object](f, rootUser, "GET "+config)
	if now["hostname"] != "nextcloud" || now["features"] != "nesting=1" || later["hostname"] != "cloud" || later["features"] != nil {
		t.Errorf("hostname %v then %v, features %v then %v", now["hostname"], later["hostname"], now["features"], later["features"])
	}
	if now["memory"] != 2048.0 {
		t.Errorf("memory is not changed at once: %v", now["memory"])
	}
	rows := map[string]object{}
	for _, row := range get[[]object](f, rootUser, "GET /nodes/pve1/lxc/101/pending") {
		rows[row["key"].(string)] = row
	}
	if r := rows["hostname"]; r["value"] != "nextcloud" || r["pending"] != "cloud" {
		t.Errorf("hostname: %v", r)
	}
	if r := rows["features"]; r["value"] != "nesting=1" || r["delete"] != 1.0 {
		t.Errorf("features: %v", r)
	}
	if c, _ := f.dc.Container(101); c.Name != "nextcloud" {
		t.Errorf("it is called %s before its restart", c.Name)
	}
	f.do(rootUser, "POST /nodes/pve1/lxc/101/status/reboot")
	if c, _ := f.dc.Container(101); c.Name != "cloud" {
		t.Errorf("it is called %s after its restart", c.Name)
	}
	f.call(rootUser, "PUT "+config+"?hostname=other")
	f.call(rootUser, "PUT "+config+"?revert=hostname")
	if conf := get[object](f, rootUser, "GET "+config); conf["hostname"] != "cloud" {
		t.Errorf("after revert: %v", conf["hostname"])
	}
}

func TestVolumeSize(t *testing.T) {
	for line, want := range map[string]int64{
		"local-lvm:vm-1-disk-0,size=8G": 8 * gibibyte, "a:b,size=512M,mp=/x": 512 * mebibyte, "a:b,size=1T": 1024 * gibibyte,
		"a:b,size=100": 100, "a:b": 0, "": 0, "a:b,size=": 0, "a:b,size=G": 0, "a:b,size=xG": 0,
	} {
		if got := volumeSize(line); got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
}
