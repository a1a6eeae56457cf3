package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"berth/internal/pve/sim"
)

// site is a running Berth.
type site struct {
	*process
	located
	ahead time.Duration // of its clock and the fleet's
}

// startSite starts Berth on a data folder.
func startSite(ctx context.Context, executable, folder, redis string) (*site, error) {
	s := &site{}
	args := []string{"bench", "berth", "--listen", "127.0.0.1:0", "--data", folder, "--log-level", "warn", "--max-nodes", "100"}
	if redis != "" {
		args = append(args, "--redis", redis)
	}
	var err error
	s.process, err = start(ctx, executable, &s.located, args...)
	return s, err
}

// refusal is an answer of Berth's that is none of success.
type refusal struct {
	status int
	code   string
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("answered %d %s", r.status, r.text) }

// call asks the API. It returns the session's cookie if the answer sets one.
func (s *site) call(ctx context.Context, method, path, cookie string, in, out any) (string, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return "", err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.Address+path, body)
	if err != nil {
		return "", err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK {
		refused := &refusal{status: answer.StatusCode, text: string(text)}
		var problem struct {
			Code string `json:"code"`
		}
		if json.Unmarshal(text, &problem) == nil {
			refused.code = problem.Code
		}
		return "", fmt.Errorf("%s %s: %w", method, path, refused)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			return "", err
		}
	}
	for _, c := range answer.Cookies() {
		if c.Name == "lxc-session" && c.Value != "" {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", nil
}

// signIn signs in at a host and returns the cookie.
func (s *site) signIn(ctx context.Context, h host, user, realm string) (string, error) {
	name, port, err := net.SplitHostPort(h.Address)
	if err != nil {
		return "", err
	}
	cookie, err := s.call(ctx, http.MethodPost, "/api/auth/login", "", map[string]string{
		"host": name, "port": port, "username": user, "realm": realm, "password": sim.DefaultPassword, "fingerprint": h.Fingerprint,
	}, nil)
	if err == nil && cookie == "" {
		err = errors.New("signed in, and got no cookie")
	}
	return cookie, err
}

// signOut ends a session.
func (s *site) signOut(ctx context.Context, cookie string) error {
	_, err := s.call(ctx, http.MethodPost, "/api/auth/logout", cookie, struct{}{}, nil)
	return err
}

// restOfTests is how long nothing has to be tested until the next node can be: Berth bounds tests of nodes in time.
const restOfTests = 7 * time.Second

// addNodes gives whoever a cookie belongs to the other hosts of a fleet as nodes. The clocks of Berth and of the hosts are
// set ahead together, where people would have to wait.
func (s *site) addNodes(ctx context.Context, f fleet, hosts []host, cookie string) error {
	for _, h := range hosts {
		name, port, err := net.SplitHostPort(h.Address)
		if err != nil {
			return err
		}
		in := map[string]any{
			"host": name, "port": port, "credential": "token", "tokenId": h.TokenID, "tokenSecret": h.Secret, "fingerprint": h.Fingerprint,
		}
		for {
			_, err := s.call(ctx, http.MethodPost, "/api/nodes", cookie, in, nil)
			var refused *refusal
			if errors.As(err, &refused) && refused.code == "too_many_attempts" {
				s.ahead += restOfTests
				if err := errors.Join(setClock(ctx, f.Control, s.ahead), setClock(ctx, s.Control, s.ahead)); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// counts is the beginning of a list of containers.
type counts struct {
	Matched int `json:"matched"`
	Items   []struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	} `json:"items"`
}

// untilListed waits until the list of containers has as many as it should, and returns how long that took.
func (s *site) untilListed(ctx context.Context, cookie string, want int) (time.Duration, error) {
	began := time.Now()
	for {
		var list counts
		if _, err := s.call(ctx, http.MethodGet, "/api/containers?limit=1", cookie, nil, &list); err != nil {
			return 0, err
		}
		if list.Matched == want {
			return time.Since(began), nil
		}
		if time.Since(began) > time.Minute {
			return 0, fmt.Errorf("the list has %d containers, and should have %d", list.Matched, want)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// answer is the whole answer to a target, as a client that does not unpack it gets it.
func (t target) answer(ctx context.Context) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.address+t.path, nil)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Cookie", t.cookie)
	r.Header.Set("Accept-Encoding", "identity")
	if t.gzip {
		r.Header.Set("Accept-Encoding", "gzip")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s answered %s: %s", t.path, answer.Status, strings.TrimSpace(string(body)))
	}
	return answer, body, err
}

// TellSite writes the line by which a measured Berth says that it can be used.
func TellSite(w io.Writer, address string, c *Control) error {
	return Tell(w, located{Address: address, Control: c.Address()})
}
