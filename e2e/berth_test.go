package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/pve/sim"
	"berth/internal/replicatest"
)

// Time that a process gets to start, and to end after SIGTERM. Both are far more than it takes.
const (
	startTime = 20 * time.Second
	stopTime  = 15 * time.Second
)

// berth is a running Berth.
type berth struct {
	url string
	log *lines // nil in the test process
}

// lines are what a process has written so far.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) add(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(line)
	l.text.WriteByte('\n')
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serve starts `berth serve` with an empty data folder, and ends it with the test. With BERTH_TEST_REPLICAS=2 it is two
// processes behind a load balancer, and the log is that of both.
func serve(t testing.TB, flags ...string) *berth { return serveAt(t, "127.0.0.1:0", flags...) }

// serveAt is serve for a test that has to know where Berth will be.
func serveAt(t testing.TB, address string, flags ...string) *berth {
	t.Helper()
	b := &berth{log: &lines{}}
	begin := func(listen string, flags ...string) string {
		ready := make(chan string, 1)
		arguments := append([]string{"serve", "--listen", listen, "--data", t.TempDir(), "--log-format", "json"}, flags...)
		start(t, b.log, arguments, nil, func(line []byte) {
			var entry struct{ Msg, URL string }
			if json.Unmarshal(line, &entry) == nil && entry.Msg == "Berth is ready" {
				ready <- entry.URL
			}
		})
		return within(t, ready, "berth serve")
	}
	if !replicatest.Wanted() {
		b.url = begin(address, flags...)
		return b
	}
	flags = append(flags, common(t)...)
	first := begin("127.0.0.1:0", flags...)
	address, _ = replicatest.Balance(t, address, first, begin("127.0.0.1:0", flags...))
	b.url = "http://" + address
	return b
}

// common are the flags by which two replicas share what they have to.
func common(t testing.TB) []string {
	t.Helper()
	shared := replicatest.New(t)
	return []string{"--database", shared.Database, "--redis", shared.Redis, "--key-file", filepath.Join(t.TempDir(), "berth.key")}
}

var demoAddress = regexp.MustCompile(`open (http://\S+)`)

// demo starts `berth demo`, and ends it with the test. It is always one process: a demo is for somebody who tries Berth on
// one machine, and takes neither --database nor --redis.
func demo(t testing.TB, flags ...string) *berth {
	t.Helper()
	ready, log := make(chan string, 1), &lines{}
	start(t, log, append([]string{"demo", "--listen", "127.0.0.1:0"}, flags...), func(line []byte) {
		if m := demoAddress.FindSubmatch(line); m != nil {
			ready <- string(m[1])
		}
	}, nil)
	return &berth{url: within(t, ready, "berth demo"), log: log}
}

func within(t testing.TB, ready <-chan string, what string) string {
	t.Helper()
	select {
	case url := <-ready:
		return url
	case <-time.After(startTime):
		t.Fatalf("%s did not say within %s that it is ready", what, startTime)
		return ""
	}
}

// start runs the program until the test ends, calls back with its lines, and then expects of it that it ends well when
// it is told to, that it never panicked, and that its log holds no secret.
func start(t testing.TB, log *lines, arguments []string, stdout, stderr func(line []byte)) {
	t.Helper()
	command := exec.Command(binary(t), arguments...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "BERTH_") {
			command.Env = append(command.Env, v)
		}
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { eachLine(out, stdout) })
	reading.Go(func() {
		eachLine(errs, func(line []byte) {
			log.add(line)
			if stderr != nil {
				stderr(line)
			}
		})
	})
	t.Cleanup(func() {
		ended := make(chan error, 1)
		go func() {
			reading.Wait()
			ended <- command.Wait()
		}()
		if err := command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error("berth had ended before it was told to: ", err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error("berth did not end well after SIGTERM: ", err)
			}
		case <-time.After(stopTime):
			t.Errorf("berth still ran %s after SIGTERM", stopTime)
			_ = command.Process.Kill()
			<-ended
		}
		for _, never := range []string{"panic", sim.DefaultPassword, sim.DefaultTOTPSecret, "PVE:", "lxc-session="} {
			if strings.Contains(log.String(), never) {
				t.Errorf("the log holds %q", never)
			}
		}
		if t.Failed() {
			t.Logf("log of berth %s:\n%s", arguments[0], log)
		}
	})
}

func eachLine(r io.Reader, f func(line []byte)) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if f != nil {
			f(lines.Bytes())
		}
	}
}
