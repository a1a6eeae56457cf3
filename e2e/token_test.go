package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"berth/internal/pve/sim"
)

// use asks who a token's owner is, as a program does.
func use(t *testing.T, base, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, base+"/api/caller", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// An access token on its way: made, copied, used by a program, revoked.
func TestAccessToken(t *testing.T) {
	t.Parallel()
	p, load := containers(t, sim.Options{}, "alice", "pve", "/settings/tokens")
	load(p)
	p.fill("name", "backup script")
	p.click(`input[name=scope][value=power]`)
	p.click(`form[action$="/settings/tokens"] button[type=submit]`)
	p.until("the token", `document.getElementById("token")`)
	token := eval[string](p, `document.getElementById("token").value`)
	if status, body := use(t, p.base, token); status != http.StatusOK || !strings.Contains(body, `"scope":"power"`) {
		t.Fatalf("in use: %d %s", status, body)
	}
	p.click(`[data-copy=token]`)
	p.until("the word for it", `document.querySelector("[data-copy]").textContent !== "Copy"`)
	if got := eval[string](p, `getSelection().toString() || document.activeElement.value.slice(document.activeElement.selectionStart, document.activeElement.selectionEnd)`); got != token {
		t.Errorf("selected %q", got)
	}

	p.goTo("/settings/tokens")
	if strings.Contains(eval[string](p, `document.documentElement.outerHTML`), token) {
		t.Error("the token is shown again")
	}
	p.click(`table.sessions tbody a`)
	p.until("the question", `document.querySelector("h1").textContent.includes("Revoke")`)
	p.click(`.btn-danger`)
	p.untilPath("/settings/tokens?revoked")
	if status, body := use(t, p.base, token); status != http.StatusUnauthorized {
		t.Errorf("once revoked: %d %s", status, body)
	}
}

// TestLookAtTokens looks at the states of the page of access tokens that the navigation does not lead to.
func TestLookAtTokens(t *testing.T) {
	t.Parallel()
	p, load := containers(t, sim.Options{}, "alice", "pve", "/settings/tokens")
	var made atomic.Int64
	name := func() string { return fmt.Sprint("Nightly backup on the shelf ", made.Add(1)) }
	t.Run("made", func(t *testing.T) {
		p.in(t).look(t, "tokens-made", true, func(p *page) {
			load(p)
			p.fill("name", name())
			p.click(`form[action$="/settings/tokens"] button[type=submit]`)
			p.until("the token", `document.getElementById("token")`)
		})
	})
	t.Run("list", func(t *testing.T) {
		p.in(t).look(t, "tokens-list", true, func(p *page) {
			load(p)
			p.until("the list", `document.querySelector("table.sessions")`)
		})
	})
	t.Run("refused", func(t *testing.T) {
		p := p.in(t)
		p.expect("POST /settings/tokens 422")
		p.look(t, "tokens-refused", true, func(p *page) {
			load(p)
			eval[string](p, `document.querySelector("[name=expiresAt]").value = "2001-01-01"`)
			p.click(`form[action$="/settings/tokens"] button[type=submit]`)
			p.until("the errors", `document.querySelectorAll(".field-error").length === 2`)
		})
	})
	t.Run("revoke", func(t *testing.T) {
		p.in(t).look(t, "tokens-revoke", true, func(p *page) {
			load(p)
			p.click(`table.sessions tbody a`)
			p.until("the question", `document.querySelector(".btn-danger")`)
		})
	})
}
