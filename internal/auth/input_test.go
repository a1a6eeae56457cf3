package auth

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"berth/internal/fault"
	"berth/internal/pve"
)

func TestSignInInput(t *testing.T) {
	type fields = map[string]string
	const portProblem = "Port must be a whole number from 1 to 65535"
	tests := []struct {
		name, body string
		want       fields // nil: the input is right
		address    pve.Address
		userID     string
	}{
		{"the least", `{"host":"pve.lan","username":"root","password":"x"}`, nil, pve.Address{Host: "pve.lan", Port: 8006}, "root@pam"},
		{"everything", `{"host":"pve.lan","port":8007,"username":"alice","password":"x","realm":"pve"}`, nil, pve.Address{Host: "pve.lan", Port: 8007}, "alice@pve"},
		{"port as text", `{"host":"pve.lan","port":"443","username":"root","password":"x"}`, nil, pve.Address{Host: "pve.lan", Port: 443}, "root@pam"},
		{"port null is absent", `{"host":"pve.lan","port":null,"username":"root","password":"x"}`, nil, pve.Address{Host: "pve.lan", Port: 8006}, "root@pam"},
		{"realm in the user name wins", `{"host":"pve.lan","username":"alice@pve","password":"x","realm":"pam"}`, nil, pve.Address{Host: "pve.lan", Port: 8006}, "alice@pve"},
		{"another @ belongs to the name", `{"host":"pve.lan","username":"a@example.org","password":"x","realm":"pve"}`, nil, pve.Address{Host: "pve.lan", Port: 8006}, "a@example.org@pve"},
		{"the last @ counts", `{"host":"pve.lan","username":"a@pve@pam","password":"x"}`, nil, pve.Address{Host: "pve.lan", Port: 8006}, "a@pve@pam"},
		{"pasted address", `{"host":"https://pve.lan:8443/","port":8006,"username":"root","password":"x"}`, nil, pve.Address{Host: "pve.lan", Port: 8443}, "root@pam"},
		{"IPv6 in brackets", `{"host":"[::1]","username":"root","password":"x"}`, nil, pve.Address{Host: "::1", Port: 8006}, "root@pam"},
		{"IPv6 without", `{"host":"2001:db8::1","username":"root","password":"x"}`, nil, pve.Address{Host: "2001:db8::1", Port: 8006}, "root@pam"},

		{"nothing", `{}`, fields{"host": "Proxmox host is required", "username": "Username is required", "password": "Password is required"}, pve.Address{}, ""},
		{"blanks", `{"host":"  ","username":" ","password":"x"}`, fields{"host": "Proxmox host is required", "username": "Username is required"}, pve.Address{}, ""},
		{"port empty", `{"host":"h","port":"","username":"u","password":"x"}`, fields{"port": portProblem}, pve.Address{}, ""},
		{"port 0", `{"host":"h","port":0,"username":"u","password":"x"}`, fields{"port": portProblem}, pve.Address{}, ""},
		{"port 65536", `{"host":"h","port":65536,"username":"u","password":"x"}`, fields{"port": portProblem}, pve.Address{}, ""},
		{"port 1.5", `{"host":"h","port":1.5,"username":"u","password":"x"}`, fields{"port": portProblem}, pve.Address{}, ""},
		{"port 1e3", `{"host":"h","port":1e3,"username":"u","password":"x"}`, fields{"port": portProblem}, pve.Address{}, ""},
		{"port +1", `{"host":"h","port":"+1","username":"u","password":"x"}`, fields{"port": portProblem}, pve.Address{}, ""},
		{"port negative", `{"host":"h","port":-1,"username":"u","password":"x"}`, fields{"port": portProblem}, pve.Address{}, ""},
		{"port a list", `{"host":"h","port":[1],"username":"u","password":"x"}`, fields{"port": portProblem}, pve.Address{}, ""},
		{"a realm of the host's own", `{"host":"h","username":"u","password":"x","realm":"corp.example-1_x"}`, nil, pve.Address{Host: "h", Port: 8006}, "u@corp.example-1_x"},
		{"realm", `{"host":"h","username":"u","password":"x","realm":"1st"}`, fields{"realm": "Realm is not the name of a realm"}, pve.Address{}, ""},
		{"realm of one letter", `{"host":"h","username":"u","password":"x","realm":"a"}`, fields{"realm": "Realm is not the name of a realm"}, pve.Address{}, ""},
		{"realm of 33", `{"host":"h","username":"u","password":"x","realm":"` + strings.Repeat("r", 33) + `"}`, fields{"realm": "Realm is not the name of a realm"}, pve.Address{}, ""},
		{"user with a colon", `{"host":"h","username":"a:b","password":"x"}`, fields{"username": "Username can't contain spaces, colons, slashes or control characters"}, pve.Address{}, ""},
		{"user too long", `{"host":"h","username":"` + strings.Repeat("u", 61) + `","password":"x"}`, fields{"username": "Username is too long: at most 64 characters with its realm"}, pve.Address{}, ""},
		{"password too long", `{"host":"h","username":"u","password":"` + strings.Repeat("p", 4097) + `"}`, fields{"password": "Password is too long: at most 4096 bytes"}, pve.Address{}, ""},
		{"fingerprint", `{"host":"h","username":"u","password":"x","fingerprint":"AB:CD"}`, fields{"fingerprint": "Fingerprint must be the 32 bytes of a SHA-256 in hexadecimal"}, pve.Address{}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var in SignInInput
			if err := json.Unmarshal([]byte(test.body), &in); err != nil {
				t.Fatal(err)
			}
			c, err := in.check()
			if test.want == nil {
				if err != nil || c.address != test.address || c.userID != test.userID {
					t.Errorf("%v at %v, %v; want %v at %v", c.userID, c.address, err, test.userID, test.address)
				}
				return
			}
			f := fault.As(err)
			if f == nil || f.Kind != fault.Invalid || !maps.Equal(f.Fields, test.want) {
				t.Errorf("%v, want the fields %v", err, test.want)
			}
		})
	}
}

// What can't be a host is a field error, whatever it is.
func TestHostsThatAreNone(t *testing.T) {
	for _, host := range []string{
		"root@pve.lan", "https://root:secret@pve.lan:8006/", "pve.lan/api2", "https://pve.lan:8006/?x=1", "pve.lan#a", "pve lan",
		"pve\nlan", "pve\x00lan", strings.Repeat("a", 64) + ".lan", strings.Repeat("a.", 130) + "lan", "ftp://pve.lan", "[::1", "::1]",
		"fe80::1%eth0", "-pve.lan", "pve..lan",
	} {
		in := SignInInput{Host: host, Username: "root", Password: "hunter2"}
		f := fault.As(in.Validate())
		if f == nil || f.Fields["host"] == "" || len(f.Fields) != 1 {
			t.Errorf("%q: %v, want an error of the field host alone", host, f)
			continue
		}
		if strings.Contains(f.Fields["host"], "secret") {
			t.Errorf("%q: the message repeats a password: %s", host, f.Fields["host"])
		}
	}
}

func TestSecondFactorInput(t *testing.T) {
	right := SecondFactorInput{Challenge: "c", Kind: "totp", Code: "012 345"}
	if err := right.Validate(); err != nil || right.code() != "012345" {
		t.Errorf("code %q, %v; want 012345 with its leading zero", right.code(), err)
	}
	wrong := SecondFactorInput{Kind: "webauthn", Code: "  "}
	f := fault.As(wrong.Validate())
	if f == nil || f.Fields["challenge"] == "" || f.Fields["kind"] == "" || f.Fields["code"] != "Code is required" {
		t.Errorf("%v, want all three fields refused", f)
	}
}

func FuzzSignInInput(f *testing.F) {
	f.Add(`{"host":"pve.lan","port":"8006","username":"root@pam","password":"x"}`)
	f.Add(`{"host":"https://[::1]:8006/","port":1.5,"fingerprint":"AB"}`)
	f.Add(`{"port":{"a":[1]},"host":"\u0000"}`)
	f.Fuzz(func(t *testing.T, body string) {
		var in SignInInput
		if json.Unmarshal([]byte(body), &in) != nil {
			return
		}
		c, err := in.check()
		if err == nil && (c.address.Host == "" || c.address.Port < 1 || c.address.Port > 65535 || c.password == "") {
			t.Errorf("%q passed as %v", body, c.address)
		}
	})
}

func TestSecondFactorCode(t *testing.T) {
	for _, c := range []struct{ kind, typed, want string }{
		{"totp", "012 345", "012345"},
		{"totp", " 000000\t", "000000"},
		{"recovery", "0123-4567-89ab-cdef", "0123-4567-89ab-cdef"},
		{"recovery", "0123 4567 89AB CDEF", "0123-4567-89ab-cdef"},
		{"recovery", "0123456789abcdef", "0123-4567-89ab-cdef"},
		{"recovery", " 0123-4567 - 89AB-CDEF ", "0123-4567-89ab-cdef"},
		// What is no recovery code goes to the host as it is, which refuses it.
		{"recovery", "0123-4567", "0123-4567"},
		{"recovery", "0123-4567-89ab-cdéf", "0123-4567-89ab-cdéf"},
		// A Yubico OTP is of letters whose case counts for nobody but Yubico.
		{"yubico", "CCCCCCbcgujh", "CCCCCCbcgujh"},
	} {
		if got := (SecondFactorInput{Kind: c.kind, Code: c.typed}).code(); got != c.want {
			t.Errorf("%s %q is sent as %q, want %q", c.kind, c.typed, got, c.want)
		}
	}
}
