package pve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recording is one exchange with PVE's own server code.
type recording struct {
	Case        string
	Method      string
	Path        string
	Status      int
	Reason      string
	ContentType *string `json:"content_type"`
	Body        string
}

// wire is the recorded reply as it goes over the wire.
func (r recording) wire() string {
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", r.Status, r.Reason, len(r.Body))
	if r.ContentType != nil {
		head += "Content-Type: " + *r.ContentType + "\r\n"
	}
	if r.Status >= 400 {
		head += "Connection: close\r\n"
	}
	return head + "\r\n" + r.Body
}

// meaning is what a recorded reply says: "ok", "ticket of X", "challenge of X", or the kind of its error.
var meanings = map[string]string{
	"login ok":                               "ticket of alice@pve",
	"login with separate realm":              "ticket of alice@pve",
	"new-format=1":                           "ticket of alice@pve",
	"renew: ticket as password":              "ticket of alice@pve",
	"other user ticket as password":          "unauthenticated",
	"missing password":                       "invalid parameters [password]",
	"unknown param":                          "invalid parameters [bogus]",
	"username without realm":                 "unauthenticated",
	"unknown user":                           "unauthenticated",
	"disabled user":                          "unauthenticated",
	"expired user":                           "unauthenticated",
	"unknown realm":                          "unauthenticated",
	"empty password":                         "unauthenticated",
	"json login":                             "ticket of alice@pve",
	"bad content type":                       "server error",
	"TFA login step1":                        "challenge of bob@pve totp [0 1]",
	"use !tfa! ticket as auth cookie":        "unauthenticated",
	"TFA wrong totp":                         "unauthenticated",
	"TFA response w/o prefix":                "unauthenticated",
	"TFA ok totp":                            "cut", // the recording ends within the JSON text
	"TFA replay same totp":                   "unauthenticated",
	"TFA recovery ok":                        "cut",
	"TFA recovery replay":                    "unauthenticated",
	"TFA challenge of other user":            "unauthenticated",
	"!tfa! ticket as password":               "unauthenticated",
	"one-call login with otp=totp:":          "challenge of bob@pve totp [1]",
	"otp and tfa-challenge":                  "unauthenticated",
	"GET with cookie (url-encoded)":          "version 9.1.1",
	"GET with cookie (raw)":                  "version 9.1.1",
	"GET with ticket in Authorization":       "version 9.1.1",
	"GET bad ticket":                         "unauthenticated",
	"api token ok":                           "version 9.1.1",
	"api token bad":                          "unauthenticated",
	"api token + bad cookie":                 "unauthenticated",
	"ticket w/ token header":                 "forbidden",
	"POST without CSRF":                      "unauthenticated",
	"POST bad CSRF":                          "unauthenticated",
	"POST with CSRF":                         "task vzstart of root@pam",
	"403: no privilege":                      "forbidden",
	"400 param: vmid=abc (perm check first)": "forbidden",
	"400 enum+unknown":                       "invalid parameters [fail junk]",
	"dup param conflicting":                  "invalid parameters [vmid]",
	"plain die -> 500":                       "server error",
	"500 locked":                             "server error",
	"raise code":                             "not found",
	"extjs formatter 500":                    "server error",
	"extjs login bad":                        "unauthenticated",
	"unknown path":                           "unsupported",
	"unknown method on path":                 "unsupported",
	"unsupported http method":                "server error",
	"unknown format":                         "server error",
	"static missing":                         "not found",
	"DELETE with body":                       "server error",
	"domains unauth":                         "domains pve pam",
	"permissions":                            "permissions on /vms/101: VM.Audit VM.Console VM.PowerMgmt",
	"GET ticket":                             "null",
	"token list":                             "rows 1",
	"users list":                             "rows 1",
	"other user read -> 403":                 "forbidden",
	"create token":                           "token alice@pve!t2",
	"create token again":                     "invalid parameters [tokenid]",
	"create token via token":                 "forbidden",
	"password too short":                     "invalid parameters [password]",
	"password w/o confirmation":              "invalid parameters [confirmation-password]",
}

// TestRecordedReplies serves every recorded reply as it was and reads it with the call that it answers.
func TestRecordedReplies(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(shared, "recorded-replies.json"))
	if err != nil {
		t.Skip("no recorded replies at", shared)
	}
	var recordings []recording
	if err := json.Unmarshal(text, &recordings); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, r := range recordings {
		seen[r.Case] = true
		t.Run(r.Case, func(t *testing.T) {
			want, ok := meanings[r.Case]
			if !ok {
				t.Fatal("nothing says what this reply means")
			}
			h, _ := pinned(t, func(int, *http.Request, string) string { return r.wire() })
			got, err := meaning(t, h, r)
			switch {
			case want == "cut":
				wantKind(t, err, KindNotProxmox)
			case err != nil:
				checkRecordedError(t, r, err)
				got = describe(err)
				fallthrough
			default:
				if got != want {
					t.Errorf("reads as %q, want %q", got, want)
				}
			}
		})
	}
	for name := range meanings {
		if !seen[name] {
			t.Errorf("no recording is called %q", name)
		}
	}
}

// describe is an error's kind, with the parameters that it names.
func describe(err error) string {
	e, ok := err.(*Error)
	if !ok {
		return err.Error()
	}
	if len(e.Fields) > 0 {
		return e.Kind.String() + " " + fmt.Sprint(sortedKeys(e.Fields))
	}
	return e.Kind.String()
}

// checkRecordedError compares what an error says with the reply it came from.
func checkRecordedError(t *testing.T, r recording, err error) {
	t.Helper()
	e, ok := err.(*Error)
	if !ok {
		t.Fatalf("error %v is not an *Error", err)
	}
	if r.Status == 200 {
		return // the extjs formatter, whose status is in the body
	}
	if e.Status != r.Status || e.Reason != r.Reason {
		t.Errorf("status line %d %q, want %d %q", e.Status, e.Reason, r.Status, r.Reason)
	}
	// The reason phrase is the message's first line.
	if !strings.HasPrefix(e.Message, strings.TrimSuffix(r.Reason, ".")) {
		t.Errorf("message %q does not begin with the reason %q", e.Message, r.Reason)
	}
	if strings.ContainsAny(e.Error(), "\r\n") {
		t.Errorf("text %q has more than one line", e.Error())
	}
}

func meaning(t *testing.T, h *Host, r recording) (string, error) {
	ctx := t.Context()
	switch {
	case strings.HasSuffix(r.Path, "/access/ticket") && r.Method == http.MethodPost:
		s, err := h.SignIn(ctx, "alice@pve", "not in any reply")
		if err != nil {
			return "", err
		}
		if c := s.Challenge; c != nil {
			if s.Ticket != (Ticket{}) {
				t.Error("a challenge came with a ticket")
			}
			kinds := ""
			if c.TOTP {
				kinds += " totp"
			}
			return "challenge of " + c.UserID + kinds + " " + fmt.Sprint(c.Recovery), nil
		}
		if s.Ticket.CSRF == "" || s.Ticket.Value == "" {
			t.Error("the ticket is not whole")
		}
		if issued, err := s.Ticket.IssuedAt(); err != nil || issued.Year() != 2026 {
			t.Errorf("issued at %v, %v", issued, err)
		}
		return "ticket of " + s.Ticket.UserID, nil
	case r.Path == "/api2/json/version":
		v, err := h.Version(ctx, alice)
		return "version " + v.Version, err
	case r.Path == "/api2/json/access/domains":
		domains, err := h.Domains(ctx)
		names := "domains"
		for _, d := range domains {
			names += " " + d.Realm
		}
		return names, err
	case r.Path == "/api2/json/access/permissions":
		p, err := h.Permissions(ctx, alice)
		return "permissions on /vms/101: " + strings.Join(sortedKeys(p["/vms/101"]), " "), err
	case strings.Contains(r.Path, "/token/") && r.Method == http.MethodPost:
		token, err := h.CreateToken(ctx, alice, "alice@pve", r.Path[strings.LastIndexByte(r.Path, '/')+1:], TokenOptions{})
		return "token " + token.ID, err
	case r.Path == "/api2/json/access/ticket":
		a, err := h.do(ctx, get(nil, "access", "domains"))
		if err == nil && a.data == nil {
			return "null", nil
		}
		return "", err
	case strings.Contains(r.Path, "testvm") || r.Method != http.MethodGet:
		upid, err := h.Change(ctx, alice, "pve1", 101, ActionStart, ChangeOptions{})
		return "task " + upid.Type + " of " + upid.User, err
	default:
		list, _, err := rows(ctx, h, get(alice, "nodes"), func(r record) string { return r.text("userid") })
		return fmt.Sprintf("rows %d", len(list)), err
	}
}
