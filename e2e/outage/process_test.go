package outage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/pve/sim"
)

const (
	// instants is how often each fault comes.
	instants = 20
	// patience is how long a test waits for what must come, on a machine that has much to do.
	patience = 90 * time.Second
	// seedVariable sets where the instants of the faults come from.
	seedVariable = "BERTH_TEST_SEED"
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	folder, err := os.MkdirTemp("", "berth-outage-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "berth")
	if out, err := build("../..", binary).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// build makes the program of the module in a folder.
func build(module, binary string) *exec.Cmd {
	cmd := exec.Command("go", "build", "-trimpath", "-o", binary, "./cmd/berth")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}

// seeded is chance that a failed test can be run with again.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 20))
}

// upTo is a random part of a time.
func upTo(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most)))
}

// log is what a process has written so far.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// process is a running program.
type process struct {
	cmd   *exec.Cmd
	log   log
	ended chan struct{}
}

// start runs a program with nothing in its environment but what is given. It is killed with the test, and its log is searched
// for what must not be in it.
func start(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state says it all
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		for _, never := range []string{sim.DefaultPassword, "PVE:p", "panic"} {
			if strings.Contains(p.log.String(), never) {
				t.Errorf("the log of %v holds %q", args, never)
			}
		}
	})
	return p
}

// kill ends a process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// stop ends a process as an operator does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("status %d after SIGTERM\n%s", code, p.tail())
	}
}

// end waits for the end of a process and returns its status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("did not end\n%s", p.tail())
		return -1
	}
}

// tail is the end of what a process has written.
func (p *process) tail() string {
	text := p.log.String()
	return text[max(0, len(text)-4000):]
}

// await waits until a process has written something, and returns the first group of it; "" when it ends without.
func (p *process) await(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var ended bool
		select {
		case <-p.ended:
			ended = true
		default:
		}
		if m := re.FindStringSubmatch(p.log.String()); m != nil {
			return m[len(m)-1]
		}
		if ended {
			return ""
		}
	}
	t.Fatalf("did not write %q\n%s", pattern, p.tail())
	return ""
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
