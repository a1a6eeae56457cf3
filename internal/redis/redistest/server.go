package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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
	folder  string   // for its log
	command []string // the program, and its file of settings if it has one
	args    []string
	busPort string // in a cluster
	process *exec.Cmd
}

// Start starts a server with further settings, each as on its command line. It is gone when the test ends.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, "", append([]string{"--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(), "--daemonize", "no"}, args...)...)
}

func start(t testing.TB, file string, args ...string) *Server {
	t.Helper()
	s := &Server{folder: t.TempDir(), command: []string{testneed.Command(t, "redis-server")}, args: args}
	if file != "" {
		s.command = append(s.command, file)
	}
	if i := slices.Index(args, "--cluster-port"); i >= 0 {
		s.busPort = args[i+1]
	}
	// Somebody else may take a port between the look and the start.
	for range 20 {
		s.Address = testneed.FreeAddress(t)
		if s.Run(t) {
			t.Cleanup(func() { s.Kill(t) })
			return s
		}
	}
	t.Fatal("no redis-server started")
	return nil
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
	process := exec.Command(s.command[0], slices.Concat(s.command[1:], []string{"--port", port}, s.args)...)
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
	Eventually(t, "redis-server to end", func() bool {
		conn, err := net.Dial("tcp", s.Address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
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

// Text runs one command of words that answers with a text, and returns it.
func (s *Server) Text(t testing.TB, words ...string) string {
	t.Helper()
	text, err := s.ask(true, words...)
	if err != nil {
		t.Fatalf("%s: %v", words[0], err)
	}
	return text
}

// Command is Do for a server that may not answer.
func (s *Server) Command(words ...string) (string, error) { return s.ask(false, words...) }

func (s *Server) ask(whole bool, words ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
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
	answer := bufio.NewReader(conn)
	line, err := answer.ReadString('\n')
	line = strings.TrimSpace(line)
	size, isText := strings.CutPrefix(line, "$")
	if err != nil || !whole || !isText {
		return line, err
	}
	n, err := strconv.Atoi(size)
	if err != nil {
		return "", err
	}
	text := make([]byte, max(n, 0))
	_, err = io.ReadFull(answer, text)
	return string(text), err
}
