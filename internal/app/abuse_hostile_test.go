package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/pve"
	"berth/internal/pve/sim"
	"berth/internal/replicatest"
)

// What one hostile host, and sixteen of them at once, may make the heap grow by.
const (
	maxGrowth   = 32 << 20
	maxGrowth16 = 128 << 20
	// ownHeap is what lives in a Berth by itself that somebody looks at.
	ownHeap = 8 << 20
)

// endlessly writes a text for ever, or until its reader has enough. The text should be long: it is written as it is.
func endlessly(w io.Writer, text []byte) {
	for {
		if _, err := w.Write(text); err != nil {
			return
		}
	}
}

// times writes n texts between a head and a tail: the same hundred again and again, made before anything is measured,
// since the host of the test shares its heap with the program.
func times(head string, n int, text func(i int) string, tail string) http.HandlerFunc {
	many := min(n, 100)
	var block bytes.Buffer
	for i := range many {
		if i > 0 {
			block.WriteByte(',')
		}
		block.WriteString(text(i))
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, head)
		for i := 0; i < n; i += many {
			if i > 0 {
				_, _ = io.WriteString(w, ",")
			}
			if _, err := w.Write(block.Bytes()); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, tail)
	}
}

var blank = bytes.Repeat([]byte(" "), 32<<10)

// guest is a row of cluster/resources as large as those of Proxmox VE.
func guest(i int) string {
	return fmt.Sprintf(`{"id":"lxc/%d","type":"lxc","vmid":%d,"name":"container-%d","node":"pve%d","status":"running","cpu":0.0123,"maxcpu":2,`+
		`"mem":123456789,"maxmem":1073741824,"disk":123456789,"maxdisk":8589934592,"uptime":86400,"netin":123456789,"netout":123456789,`+
		`"diskread":123456789,"diskwrite":123456789,"tags":"family;cloud","template":0}`, 100+i, 100+i, i, i%32)
}

// sameTags are as many and as long as are read at all, and escaped they are five times as long.
var sameTags = func() string {
	var tags strings.Builder
	for i := range 64 {
		fmt.Fprintf(&tags, "%s%02d;", strings.Repeat("&", 251), i)
	}
	return tags.String()
}()

// largestAnswers are what a host may say at most, as far as text goes: lists that are shown.
var largestAnswers = map[string]http.HandlerFunc{
	"the largest list": times(`{"data":[`, 10_000, guest, `]}`),
	"the largest list, escaped": times(`{"data":[`, 10_000, func(i int) string {
		return strings.Replace(guest(i), `"name":"container-`, `"name":"&&&&&&&&&&&&&&&&-`, 1)
	}, `]}`),
	"the largest rows, escaped": times(`{"data":[`, 500, func(i int) string {
		tags := strings.Repeat(strings.Repeat("&", 29)+";", 16)
		return strings.Replace(guest(i), `"tags":"family;cloud"`, `"tags":"`+tags+`"`, 1)
	}, `]}`),
}

// answers are what hostile hosts say when they are asked for containers, or for a ticket.
var hostileAnswers = map[string]http.HandlerFunc{
	"endless white space": func(w http.ResponseWriter, _ *http.Request) { endlessly(w, blank) },
	"endless text": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"name":"`)
		endlessly(w, bytes.Repeat([]byte("x"), 32<<10))
	},
	"endless text beside the data": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"message":"`)
		endlessly(w, bytes.Repeat([]byte("x"), 32<<10))
	},
	"endless list beside the data": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"message":[1`)
		endlessly(w, bytes.Repeat([]byte(",1"), 16<<10))
	},
	"endless errors": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"errors":{"a":"b"`)
		endlessly(w, bytes.Repeat([]byte(`,"a":"b"`), 4<<10))
	},
	"endless refusal": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		endlessly(w, bytes.Repeat([]byte("x"), 32<<10))
	},
	"endless headers":          raw("HTTP/1.1 200 OK\r\n", bytes.Repeat([]byte("X-Long: yyyyyyyyyyyyyyyy\r\n"), 1024)),
	"an endless header":        raw("HTTP/1.1 200 OK\r\nX-Long: ", bytes.Repeat([]byte("y"), 32<<10)),
	"endless early hints":      raw("", bytes.Repeat([]byte("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), 512)),
	"an endless status line":   raw("HTTP/1.1 200 ", bytes.Repeat([]byte("y"), 32<<10)),
	"endless trailers":         raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", bytes.Repeat([]byte("X-Long: yyyyyyyyyyyyyyyy\r\n"), 1024)),
	"endless chunk extensions": raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", bytes.Repeat([]byte("y"), 32<<10)),
	"a gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb())
	},
	"a gzip bomb in the transfer encoding": func(w http.ResponseWriter, r *http.Request) {
		raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", bomb())(w, r)
	},
	"a redirect": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusTemporaryRedirect)
	},
	"a million resources":       times(`{"data":[`, 1_000_000, guest, `]}`),
	"a million small resources": times(`{"data":[`, 1_000_000, func(i int) string { return fmt.Sprintf(`{"type":"lxc","vmid":%d}`, 100+i) }, `]}`),
	"a million nothings":        times(`{"data":[`, 1_000_000, func(int) string { return `{}` }, `]}`),
	"many long names": times(`{"data":[`, 20_000, func(i int) string {
		return fmt.Sprintf(`{"type":"lxc","vmid":%d,"name":"%0250d"}`, 100+i, i)
	}, `]}`),
	"many tags": times(`{"data":[`, 1500, func(i int) string {
		return fmt.Sprintf(`{"type":"lxc","vmid":%d,"tags":"%s"}`, 100+i, strings.Repeat(fmt.Sprintf("t%d;", i), 1000))
	}, `]}`),
	// What is short on the wire and in memory, and long on a page: few words that many containers share, and escapes.
	"same long tags": times(`{"data":[`, 500, func(i int) string {
		return fmt.Sprintf(`{"type":"lxc","vmid":%d,"node":"n","name":"c","status":"running","tags":"%s"}`, 100+i, sameTags)
	}, `]}`),
	"names to be escaped": times(`{"data":[`, 4000, func(i int) string {
		return fmt.Sprintf(`{"type":"lxc","vmid":%d,"node":"n","name":"%s","status":"running"}`, 100+i, strings.Repeat("&", 253))
	}, `]}`),
	"same long names of members": times(`{"data":[`, 10_000, func(i int) string {
		return fmt.Sprintf(`{"type":"lxc","vmid":%d,"node":"%[2]s","status":"%[2]s","lock":"%[2]s"}`, 100+i, strings.Repeat("<", 253))
	}, `]}`),
	"many members of one entry": times(`{"data":[{`, 1_000_000, func(i int) string { return fmt.Sprintf(`"%d":0`, i) }, `}]}`),
	"a large number": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"type":"lxc","vmid":1`)
		endlessly(w, bytes.Repeat([]byte("0"), 32<<10))
	},
	"lists nested 100,000 deep": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}`)
	},
	"objects nested 100,000 deep": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":`+strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000)+`}`)
	},
	"nested 100,000 deep in an entry": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"type":"lxc","vmid":100,"ha":`+strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000)+`}]}`)
	},
	"nested 100,000 deep in a refusal": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"data":null,"errors":`+strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000)+`}`)
	},
	"one byte now and then": func(w http.ResponseWriter, r *http.Request) {
		for range time.Tick(20 * time.Millisecond) {
			if _, err := w.Write([]byte(" ")); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	},
	"silence": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
}

// raw takes the connection over, and writes a head and then, if there is more, that for ever.
func raw(head string, more []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, head); err == nil && len(more) > 0 {
			endlessly(conn, more)
		}
	}
}

// bomb is about 1 MiB that unfolds to 1 GiB: the same member of 1 MiB again and again, which is quickly made.
var bomb = sync.OnceValue(func() []byte {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		panic(err)
	}
	for range (1 << 20) / len(blank) {
		_, _ = w.Write(blank)
	}
	_ = w.Close()
	return bytes.Repeat(packed.Bytes(), 1<<10)
})

// newHostileBench starts the program with time limits for calls and sign-ins; 0 is its own.
func newHostileBench(t *testing.T, call, signIn time.Duration) *bench {
	t.Helper()
	b := &bench{clock: newClock(), folder: t.TempDir(), proxmox: pve.Options{CallTimeout: call, SignInTimeout: signIn}}
	b.begin(t)
	return b
}

// slow are the answers that only a time limit ends.
var slow = map[string]bool{"one byte now and then": true, "silence": true}

// heap is what the program has on its heap, garbage that was not collected yet and what is kept for reuse included.
func heap() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}

// growth is by how much the heap grows at most while something runs. It is sampled every millisecond.
func growth(during func()) int64 {
	runtime.GC()
	runtime.GC()
	before := heap()
	// Garbage is collected when there is as much of it as of what lives, and in this process lives what a hundred tests before have
	// left. Here it is collected as in a program by itself.
	defer debug.SetGCPercent(debug.SetGCPercent(max(5, min(100, int(100*ownHeap/before)))))
	peak := before
	ctx, cancel := context.WithCancel(context.Background())
	var sampling sync.WaitGroup
	sampling.Go(func() {
		for range time.Tick(time.Millisecond) {
			if peak = max(peak, heap()); ctx.Err() != nil {
				return
			}
		}
	})
	during()
	cancel()
	sampling.Wait()
	return int64(peak) - int64(before)
}

// visit signs in at a host and looks at the list on the page and by the API. It keeps no answer, only the statuses and what
// the page begins with.
func visit(b *browser, h *hostile, user string) (signIn, page, list int, text string) {
	in := typed("127.0.0.1", h.port())
	in["username"], in["fingerprint"] = user, h.fingerprint()
	r := b.json("/api/auth/login", in)
	if r.StatusCode != http.StatusOK {
		return r.StatusCode, 0, 0, r.body
	}
	page, text = b.glance("/")
	list, _ = b.glance("/api/containers")
	return r.StatusCode, page, list, text
}

// glance reads an answer and keeps its first 64 KiB.
func (b *browser) glance(path string) (status int, text string) {
	b.t.Helper()
	resp, err := b.http.Get(b.base + path)
	if err != nil {
		b.t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	head, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		b.t.Error(err)
	}
	return resp.StatusCode, string(head)
}

// TestAbuseHostileHosts: whatever a host answers to a sign-in, or to a session of its own user, costs the program little
// memory and that user a page that says so, and costs nobody else anything.
func TestAbuseHostileHosts(t *testing.T) {
	whole := t // which the hosts live as long as: see newHostile
	// Only where an answer never ends is the limit short: a busy machine has to meet the others.
	const patient, hasty = time.Minute, 300 * time.Millisecond
	usual, hastyCalls, hastySignIns := newHostileBench(t, patient, patient), newHostileBench(t, hasty, patient), newHostileBench(t, patient, hasty)
	usual.containers.SetPatience(patient)
	bomb()
	ca := newAuthority(t)
	most := map[string]int64{}
	for name, answer := range hostileAnswers {
		t.Run(name, func(t *testing.T) {
			b, other := usual, usual
			if slow[name] {
				b, other = hastyCalls, hastySignIns
			}
			b.forget()
			loopback := forLoopback
			h := newHostile(whole, ca.issue(t, &loopback), plausible(answer))
			browser := b.browser(t)
			var signIn, page, list int
			var text string
			grew := growth(func() { signIn, page, list, text = visit(browser, h, "root@pam") })
			if signIn != http.StatusOK || page != http.StatusOK {
				t.Errorf("sign-in %d, page %d", signIn, page)
			}
			if !strings.Contains(text, `role="alert"`) || strings.Contains(text, "</tr>") && !strings.Contains(text, "data-stale") {
				t.Errorf("the page does not say that something is wrong: %.2000s", text)
			}
			if list != http.StatusBadGateway && list != http.StatusInternalServerError {
				t.Errorf("list %d", list)
			}
			t.Logf("with a session the heap grew by %.1f MiB", float64(grew)/(1<<20))
			most["session"] = max(most["session"], grew)
			if grew > maxGrowth {
				t.Errorf("the heap grew by %d bytes", grew)
			}

			other.forget()
			loopback = forLoopback
			nobody := newHostile(whole, ca.issue(t, &loopback), answer)
			grew = growth(func() { signIn, _, _, text = visit(other.browser(t), nobody, "root@pam") })
			if signIn != http.StatusUnauthorized || !strings.Contains(text, failure) {
				t.Errorf("sign-in %d %s", signIn, text)
			}
			t.Logf("at the sign-in the heap grew by %.1f MiB", float64(grew)/(1<<20))
			most["sign-in"] = max(most["sign-in"], grew)
			if grew > maxGrowth {
				t.Errorf("the heap grew by %d bytes", grew)
			}
		})
	}
	t.Logf("most: %.1f MiB with a session, %.1f MiB at the sign-in", float64(most["session"])/(1<<20), float64(most["sign-in"])/(1<<20))
	// Nobody else's list has suffered.
	_, good := usual.newHost(t, sim.Options{})
	bystander := usual.browser(t)
	bystander.signIn(good, "root@pam")
	if page, text := bystander.glance("/"); page != http.StatusOK || !strings.Contains(text, "</tr>") {
		t.Errorf("a user of another host: %d", page)
	}
}

// TestAbuseSixteenHostileHosts: many at once, each with the largest answer of its kind.
func TestAbuseSixteenHostileHosts(t *testing.T) {
	replicatest.Alone(t, replicatest.Own)
	if raced {
		t.Skip("measures memory, which the race detector multiplies; the plain run measures it")
	}
	names := []string{
		"a million resources", "many long names", "many tags", "endless text", "same long tags", "names to be escaped", "same long names of members",
		"the largest list", "the largest list, escaped", "the largest rows, escaped",
	}
	ca := newAuthority(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			answer, shown := largestAnswers[name]
			if !shown {
				answer = hostileAnswers[name]
			}
			// How long sixteen of the largest lists take on a busy machine is not what is measured.
			b := newHostileBench(t, time.Minute, time.Minute)
			b.containers.SetPatience(time.Minute)
			if shown {
				loopback := forLoopback
				h, browser := newHostile(t, ca.issue(t, &loopback), plausible(answer)), b.browser(t)
				grew := growth(func() { visit(browser, h, "root@pam") })
				t.Logf("one: the heap grew by %.1f MiB", float64(grew)/(1<<20))
				if grew > maxGrowth {
					t.Errorf("the heap grew by %d bytes for one", grew)
				}
				b.forget()
			}
			var hosts []*hostile
			var browsers []*browser
			for range 16 {
				loopback := forLoopback
				hosts = append(hosts, newHostile(t, ca.issue(t, &loopback), plausible(answer)))
				browsers = append(browsers, b.browser(t))
			}
			grew := growth(func() {
				var visits sync.WaitGroup
				for i, h := range hosts {
					visits.Go(func() {
						signIn, page, list, text := visit(browsers[i], h, "root@pam")
						if signIn != http.StatusOK || page != http.StatusOK || shown != (list == http.StatusOK) || shown != strings.Contains(text, "</tr>") {
							t.Errorf("sign-in %d, page %d, list %d: %.200s", signIn, page, list, text)
						}
					})
				}
				visits.Wait()
			})
			t.Logf("the heap grew by %.1f MiB", float64(grew)/(1<<20))
			if grew > maxGrowth16 {
				t.Errorf("the heap grew by %d bytes", grew)
			}
		})
	}
}

// A cluster of ten thousand containers is none of these attacks.
func TestTenThousandContainers(t *testing.T) {
	b := newHostileBench(t, 0, 0)
	loopback := forLoopback
	h := newHostile(t, newAuthority(t).issue(t, &loopback), plausible(func(w http.ResponseWriter, _ *http.Request) {
		var all strings.Builder
		for i := range 10_000 {
			all.WriteString("," + guest(i))
		}
		_, _ = io.WriteString(w, `{"data":[`+all.String()[1:]+`]}`)
	}))
	browser := b.browser(t)
	if signIn, page, list, text := visit(browser, h, "root@pam"); signIn != http.StatusOK || page != http.StatusOK || list != http.StatusOK ||
		!strings.Contains(text, `aria-rowcount="10001"`) {
		t.Errorf("sign-in %d, page %d, list %d: %.3000s", signIn, page, list, text)
	}
	if page, text := browser.glance("/?q=container-9999"); page != http.StatusOK || !strings.Contains(text, "1 of 10,000 containers") {
		t.Errorf("searching: %d", page)
	}
}

// What a host says about its containers is text on a page, and nothing else: no markup, no control characters, and no
// characters that turn, hide or imitate what stands around it.
func TestAbuseHostileNames(t *testing.T) {
	const evil = `<script>alert(1)</script>"'&<img src=x onerror=alert(1)>\u202e\u2066\u200b\u0000\u001b[31m\ufeff\u2028{{7*7}}`
	b := newHostileBench(t, 0, 0)
	loopback := forLoopback
	cert := newAuthority(t).issue(t, &loopback)
	host := func(after http.HandlerFunc) *hostile { return newHostile(t, cert, plausible(after)) }
	row := func(w http.ResponseWriter, _ *http.Request) {
		text := quoted(evil)
		_, _ = fmt.Fprintf(w, `{"data":[{"type":"lxc","vmid":100,"name":"%[1]s","status":"%[1]s","node":"%[1]s","lock":"%[1]s","tags":"%[1]s"}]}`, text)
	}
	clean := func(t *testing.T, where, text string) {
		t.Helper()
		for _, never := range []string{"<script>alert", "<img src=x", "\u202e", "\u2066", "\u200b", "\x00", "\x1b", "\ufeff", "\u2028"} {
			if strings.Contains(text, never) {
				t.Errorf("%s has %q", where, never)
			}
		}
	}
	browser := b.browser(t)
	signIn, page, list, text := visit(browser, host(row), "root@pam")
	if signIn != http.StatusOK || page != http.StatusOK || list != http.StatusOK {
		t.Fatalf("sign-in %d, page %d, list %d", signIn, page, list)
	}
	clean(t, "the page", text)
	if !strings.Contains(text, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("the page does not have the name at all")
	}
	_, text = browser.glance("/api/containers")
	clean(t, "the API", text)
	if !strings.Contains(text, "script") {
		t.Error("the API does not have the name at all")
	}

	// Names of any length are shown as far as the longest that Proxmox VE has.
	long := host(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"data":[{"type":"lxc","vmid":100,"name":"%s"}]}`, strings.Repeat("é", 30_000))
	})
	if _, page, _, text := visit(b.browser(t), long, "root@pam"); page != http.StatusOK || !strings.Contains(text, "éé…") || len(text) > 24<<10 {
		t.Errorf("a long name: page %d of %d bytes", page, len(text))
	}

	// Refusals, in the status line and in the body, on every page that could show them and in the log.
	logged := recordLog(t)
	refusal := raw("HTTP/1.1 403 <script>alert(1)</script>\u202e\u200b\x1b[31m\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"+
		`{"data":null,"message":"`+quoted(evil)+`","errors":{"`+quoted(evil)+`":"`+quoted(evil)+`"}}`, nil)
	b.advance(time.Minute)
	browser = b.browser(t)
	_, _, _, text = visit(browser, host(refusal), "root@pam")
	clean(t, "the page of a refusal", text)
	for _, path := range []string{"/api/containers", "/settings/hosts", "/api/hosts", "/settings/about"} {
		b.advance(time.Minute)
		_, text := browser.glance(path)
		clean(t, path, text)
	}
	for _, never := range []string{"\u202e", "\u2066", "\u200b", "\x00", "\x1b", "\ufeff", "\u2028"} {
		if strings.Contains(logged.text(), never) {
			t.Errorf("the log has %q", never)
		}
	}
	if !strings.Contains(logged.text(), "alert(1)") {
		t.Error("the log does not have the refusal at all")
	}

	// The realms of a known host, which anybody can ask for.
	realms := host(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api2/json/access/domains" {
			_, _ = fmt.Fprintf(w, `{"data":[{"realm":"pam","type":"pam","comment":"%[1]s","default":1},{"realm":"%[1]s","type":"%[1]s","comment":"%[1]s"}]}`, quoted(evil))
			return
		}
		_, _ = io.WriteString(w, `{"data":[]}`)
	})
	b.forget()
	browser = b.browser(t)
	if signIn, _, _, _ := visit(browser, realms, "root@pam"); signIn != http.StatusOK {
		t.Fatal(signIn)
	}
	at := fmt.Sprintf("host=127.0.0.1&port=%d", realms.port())
	for _, path := range []string{"/api/auth/realms?" + at, "/login?" + at} {
		status, text := b.browser(t).glance(path)
		if status != http.StatusOK {
			t.Errorf("%s: %d", path, status)
		}
		clean(t, path, text)
	}
}

// quoted makes a text with escapes of JSON stand inside of a JSON text.
func quoted(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }
