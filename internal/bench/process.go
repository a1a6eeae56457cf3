package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startLimit is how long a process may take until it answers.
const startLimit = 2 * time.Minute

// process is one of the measured programs.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	log   *tail
}

// start starts this program anew with arguments of its own. The process prints what it is to be reached by as one line of
// JSON, which fills into, and ends when its standard input does.
func start(ctx context.Context, executable string, into any, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, executable, args...), log: &tail{}}
	p.cmd.Env = environment()
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 15 * time.Second
	p.cmd.Stderr = p.log
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	slow := time.AfterFunc(startLimit, func() { _ = p.cmd.Process.Kill() })
	defer slow.Stop()
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, into)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("berth %s did not start: %w\n%s", strings.Join(args, " "), err, p.log.text())
	}
	return p, nil
}

// environment is this program's own, without the variables that stand for flags: a run is the same wherever it is started.
func environment() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "BERTH_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// close ends the process, which may have ended before. How it ends is no part of what is measured.
func (p *process) close() {
	if p == nil {
		return
	}
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// tail is the end of what a process logged.
type tail struct{ last []byte }

func (t *tail) Write(text []byte) (int, error) {
	const most = 4 << 10
	t.last = append(t.last, text...)
	if len(t.last) > most {
		t.last = append([]byte{}, t.last[len(t.last)-most:]...)
	}
	return len(text), nil
}

func (t *tail) text() string { return strings.TrimSpace(string(t.last)) }

// clockTicks is how many of its ticks Linux counts for a second of processor time: USER_HZ, which is 100 for all programs.
const clockTicks = 100

func (p *process) file(name string) string {
	return filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), name)
}

// cpu is the processor time that the process has taken, its own and the system's for it.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(p.file("stat"))
	if err != nil {
		return 0, err
	}
	// Behind the name in parentheses, which may hold anything: state is the 3rd field, utime the 14th, stime the 15th.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s can't be read", p.file("stat"))
	}
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}

// memory is the process's proportional set size in MiB: what it shares with others counts in part.
func (p *process) memory() (float64, error) {
	text, err := os.ReadFile(p.file("smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("%s names no Pss", p.file("smaps_rollup"))
}

// files is how many files, sockets among them, the process has open.
func (p *process) files() (int, error) {
	open, err := os.ReadDir(p.file("fd"))
	return len(open), err
}
