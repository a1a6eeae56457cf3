package pve

import (
	"errors"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	label := strings.Repeat("a", 63)
	name253 := strings.Repeat(label+".", 3) + strings.Repeat("a", 61)
	for _, c := range []struct {
		host string
		port int
		want string
	}{
		{"pve.lan", 0, "pve.lan:8006"},
		{"pve.lan", 443, "pve.lan:443"},
		{"PVE.Lan.", 0, "pve.lan:8006"},
		{"pve", 65535, "pve:65535"},
		{"pve_1.lan", 1, "pve_1.lan:1"},
		{"10.0.0.2", 0, "10.0.0.2:8006"},
		{"10.0.0.2:9000", 443, "10.0.0.2:9000"},
		{"pve.lan:443", 8006, "pve.lan:443"},
		{"fd00::1", 0, "[fd00::1]:8006"},
		{"FD00:0:0::0001", 0, "[fd00::1]:8006"},
		{"[fd00::1]", 0, "[fd00::1]:8006"},
		{"[fd00::1]:443", 0, "[fd00::1]:443"},
		{"::1", 0, "[::1]:8006"},
		{"::ffff:10.0.0.2", 0, "10.0.0.2:8006"},
		{"https://pve.lan:8006/", 0, "pve.lan:8006"},
		{"https://pve.lan:8443/", 443, "pve.lan:8443"},
		{"https://pve.lan:8006/#v1:0:18:4:::::::", 443, "pve.lan:8006"},
		{"https://[fd00::1]:8006/#v1:0:=node%2Fpve:4:5:=contentIso", 0, "[fd00::1]:8006"},
		{"HTTPS://PVE.LAN", 8007, "pve.lan:8007"},
		{"https://[fd00::1]:8006/", 0, "[fd00::1]:8006"},
		{"https://10.0.0.2", 0, "10.0.0.2:8006"},
		{"xn--mnchen-3ya.example", 0, "xn--mnchen-3ya.example:8006"},
		{"3com.example", 0, "3com.example:8006"},
		{name253, 0, name253 + ":8006"},
		{name253 + ".", 0, name253 + ":8006"},
		{"https://" + name253 + ".:65535/", 0, name253 + ":65535"},
	} {
		got, err := ParseAddress(c.host, c.port)
		if err != nil || got.String() != c.want {
			t.Errorf("ParseAddress(%q, %d) = %v, %v; want %s", c.host, c.port, got, err, c.want)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, c := range []struct {
		host  string
		port  int
		field string
	}{
		{"", 0, "host"},
		{".", 0, "host"},
		{" ", 0, "host"},
		{"pve lan", 0, "host"},
		{" pve.lan", 0, "host"},
		{"pve.lan\n", 0, "host"},
		{"pve\x00.lan", 0, "host"},
		{"pve\x7f", 0, "host"},
		{"pve.lan/", 0, "host"},
		{"pve.lan/api2", 0, "host"},
		{"https://pve.lan//", 0, "host"},
		{"https://pve.lan/api2/json", 0, "host"},
		{"https://pve.lan:8006/#top", 0, "host"},
		{"https://pve.lan:8006/x#v1:0", 0, "host"},
		{"https://pve.lan:8006/x/#v1:0", 0, "host"},
		{"https://root@pve.lan:8006/#v1:0", 0, "host"},
		{"https://pve.lan:8006/#v1:0\n", 0, "host"},
		{"https://pve.lan:8006/#v1:" + strings.Repeat("0", 501), 0, "host"},
		{"pve.lan/#v1:0", 0, "host"},
		{"https://pve.lan?x=1", 0, "host"},
		{"https://root@pve.lan", 0, "host"},
		{"root:secret@pve.lan", 0, "host"},
		{"http://pve.lan:8006/", 0, "host"},
		{"ftp://pve.lan", 0, "host"},
		{"https://", 0, "host"},
		{"https:///", 0, "host"},
		{"https://https://pve.lan", 0, "host"},
		{`pve.lan\evil`, 0, "host"},
		{"münchen.example", 0, "host"},
		{"pve。lan", 0, "host"},
		{"\xff\xfe", 0, "host"},
		{"pve%2elan", 0, "host"},
		{"fe80::1%eth0", 0, "host"},
		{"[fe80::1%25eth0]", 0, "host"},
		{"[10.0.0.2]", 0, "host"},
		{"[pve.lan]", 0, "host"},
		{"[fd00::1", 0, "host"},
		{"[fd00::1]8006", 0, "host"},
		{"[fd00::1]:", 0, "host"},
		{"fd00::1]", 0, "host"},
		{"fd00:::1", 0, "host"},
		{"1:2:3", 0, "host"},
		{"pve..lan", 0, "host"},
		{".pve.lan", 0, "host"},
		{"pve.lan..", 0, "host"},
		{"-pve.lan", 0, "host"},
		{"pve-.lan", 0, "host"},
		{"pve!.lan", 0, "host"},
		{"*.lan", 0, "host"},
		{strings.Repeat("a", 64) + ".lan", 0, "host"},
		{strings.Repeat("abc.", 63) + "ab", 0, "host"},
		{strings.Repeat("a", 1<<20), 0, "host"},
		{"256.1.1.1", 0, "host"},
		{"010.0.0.2", 0, "host"},
		{"127.1", 0, "host"},
		{"2130706433", 0, "host"},
		{"0x7f.0.0.0x1", 0, "host"},
		{"0x7f000001", 0, "host"},
		{"pve.lan:", 0, "host"},
		{"pve.lan:0", 0, "host"},
		{"pve.lan:65536", 0, "host"},
		{"pve.lan:+80", 0, "host"},
		{"pve.lan:8006x", 0, "host"},
		{"pve.lan:999999999999999999999", 0, "host"},
		{"pve.lan", -1, "port"},
		{"pve.lan", 65536, "port"},
	} {
		got, err := ParseAddress(c.host, c.port)
		var input *InputError
		if !errors.As(err, &input) || input.Field != c.field || input.Message == "" {
			t.Errorf("ParseAddress(%.60q, %d) = %v, %v; want an error for %s", c.host, c.port, got, err, c.field)
		}
		if got != (Address{}) {
			t.Errorf("ParseAddress(%.60q, %d) returned %v with its error", c.host, c.port, got)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"pve.lan", "[fd00::1]:8006", "https://pve.lan:8006/", "10.0.0.2:443", "::ffff:1.2.3.4", "a_b.", "http://x", "x@y", "0x7f.1"} {
		f.Add(s, 0)
	}
	f.Fuzz(func(t *testing.T, host string, port int) {
		a, err := ParseAddress(host, port)
		if err != nil {
			var input *InputError
			if !errors.As(err, &input) {
				t.Fatalf("error %v is not an *InputError", err)
			}
			return
		}
		if a.Port < 1 || a.Port > 65535 || a.Host == "" || strings.ContainsAny(a.Host, " /@%[]\\?#") {
			t.Fatalf("ParseAddress(%q, %d) = %+v", host, port, a)
		}
		if again, err := ParseAddress(a.String(), 0); err != nil || again != a {
			t.Fatalf("%q reads back as %v, %v", a, again, err)
		}
		if again, err := ParseAddress(a.Host, a.Port); err != nil || again != a {
			t.Fatalf("host and port of %q read back as %v, %v", a, again, err)
		}
	})
}
