package outage

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"berth/internal/testneed"
)

// server is a PostgreSQL server of a test's own, which may be restarted.
type server struct {
	t        *testing.T
	programs string // folder of PostgreSQL's programs
	folder   string
	address  string // host:port, the same after each start
	as       *syscall.Credential
	process  *exec.Cmd
	ended    chan struct{}
}

// startServer makes a server with nothing in it. It is gone when the test ends.
func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, programs: serverPrograms()}
	if s.programs == "" {
		testneed.Missing(t, "postgres", "PostgreSQL's server is not installed here: there is no initdb in PATH or /usr/lib/postgresql")
	}
	var err error
	if s.folder, err = os.MkdirTemp("", "berth-postgres-*"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.folder) })
	if os.Geteuid() == 0 {
		// PostgreSQL refuses to run as root.
		s.as = serverUser(t)
		if err := os.Chown(s.folder, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := s.command("initdb", "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	// Somebody else may take the port between the look and the start.
	for range 20 {
		s.address = testneed.FreeAddress(t)
		if s.start() {
			t.Cleanup(func() { s.stop(syscall.SIGQUIT) })
			return s
		}
	}
	t.Fatal("no PostgreSQL server started")
	return nil
}

// serverPrograms is the folder with initdb and postgres; Debian keeps them out of PATH. The newest one is taken.
func serverPrograms() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is a good one
	newest := slices.MaxFunc(append(found, ""), func(a, b string) int {
		return version(a) - version(b)
	})
	if newest == "" {
		return ""
	}
	return filepath.Dir(newest)
}

func version(initdb string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb))))
	if err != nil {
		return -1
	}
	return n
}

// serverUser is whom the server runs as when the test may not be that itself.
func serverUser(t *testing.T) *syscall.Credential {
	t.Helper()
	found, err := user.Lookup("postgres")
	if err != nil {
		if found, err = user.Lookup("nobody"); err != nil {
			testneed.Missing(t, "postgres", "PostgreSQL does not run as root, and there is no user postgres or nobody here")
		}
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *server) data() string { return filepath.Join(s.folder, "data") }

func (s *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.programs, name), args...)
	cmd.Dir = s.folder
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

// url is a database on the server, for --database.
func (s *server) url(database string) string {
	return "postgres://postgres@" + s.address + "/" + database + "?sslmode=disable"
}

// start runs the server, over what it has, until it answers. It tells false if it ends at once.
func (s *server) start() bool {
	s.t.Helper()
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	// What the machine would lose with its power is not what is tested here.
	s.process = s.command("postgres", "-D", s.data(), "-h", "127.0.0.1", "-p", port, "-k", s.folder, "-c", "fsync=off")
	var said bytes.Buffer
	s.process.Stdout, s.process.Stderr = &said, &said
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	process := s.process
	go func() { _ = process.Wait(); close(ended) }()
	s.ended = ended
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-ended:
			s.t.Logf("PostgreSQL ended: %s", said.String())
			return false
		default:
		}
		if s.answers() {
			return true
		}
	}
	s.t.Fatal("PostgreSQL does not answer")
	return false
}

func (s *server) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// stop ends the server: by SIGQUIT at once, as after a crash, by SIGINT with what it has to put in order.
func (s *server) stop(how syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(how); err != nil {
		select {
		case <-s.ended:
			return
		default:
			s.t.Error(err)
		}
	}
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Error("PostgreSQL does not end")
		_ = s.process.Process.Kill()
	}
}
