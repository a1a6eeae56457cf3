// Package redistest owns redis-server processes for tests: started on ports of their own, killed, silenced and started again.
package redistest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/testneed"
)

// Patience is how long a test waits for what must come, on a machine that has much to do.
const Patience = 60 * time.Second

// Server is a redis-server process that a test started.
type Server struct {
	// Address is host:port, the same after each start.
	Address string
	folder  string
	args    []string
	process *exec.Cmd
}

// Start starts a server with further settings, each as on its command line. It is gone when the test ends.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	program := testneed.Command(t, "redis-server")
	s := &Server{folder: t.TempDir()}
	s.args = append([]string{program, "--bind", "127.0.0.1", "--save", "", "--dir", s.folder, "--daemonize", "no"}, args...)
	// Somebody else may take a port between the look and the start.
	for range 20 {
		s.Address = freeAddress(t)
		if s.Run(t) {
			t.Cleanup(func() { s.Kill(t) })
			return s
		}
	}
	t.Fatal("no redis-server started")
	return nil
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// URL is the server's address for --redis.
func (s *Server) URL() string { return "redis://" + s.Address }

// Run starts the server again where it was, over the data that it left. It tells false if it ends at once.
func (s *Server) Run(t testing.TB) bool {
	t.Helper()
	_, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(s.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	process := exec.Command(s.args[0], append([]string{"--port", port}, s.args[1:]...)...)
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = process.Wait(); close(ended) }()
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		select {
		case <-ended:
			return false
		default:
		}
		if answer, err := s.Command("PING"); err == nil && (strings.HasPrefix(answer, "+PONG") || strings.HasPrefix(answer, "-NOAUTH")) {
			s.process = process
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = process.Process.Kill()
	t.Fatalf("redis-server at %s does not answer", s.Address)
	return false
}

// Kill ends the server at once, as kill -9 does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.process == nil {
		return
	}
	if err := s.process.Process.Kill(); err != nil {
		t.Error(err)
	}
	s.process = nil
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		conn, err := net.Dial("tcp", s.Address)
		if err != nil {
			return
		}
		conn.Close()
		time.Sleep(time.Millisecond)
	}
	t.Errorf("redis-server at %s goes on", s.Address)
}

// Silence stops the server: its connections stay and nothing comes. Wake lets it go on.
func (s *Server) Silence(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Wake ends Silence.
func (s *Server) Wake(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, what syscall.Signal) {
	t.Helper()
	if err := s.process.Process.Signal(what); err != nil {
		t.Fatal(err)
	}
}

// Do runs one command of words and returns the first line of the answer as it comes, such as +OK or :1.
func (s *Server) Do(t testing.TB, words ...string) string {
	t.Helper()
	answer, err := s.Command(words...)
	if err != nil {
		t.Fatalf("%s: %v", words[0], err)
	}
	return answer
}

// Command is Do for a server that may not answer.
func (s *Server) Command(words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := conn.Write([]byte(b.String())); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line), err
}
