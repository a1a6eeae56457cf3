package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/testneed"
)

// StartCluster starts a cluster of so many masters, and returns its address for --redis and its servers.
func StartCluster(t testing.TB, masters int) (string, []*Server) {
	t.Helper()
	const slots = 16384
	servers := make([]*Server, masters)
	for i := range servers {
		servers[i] = Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", port(t, testneed.FreeAddress(t)))
		servers[i].Do(t, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/masters), strconv.Itoa((i+1)*slots/masters-1))
		if i > 0 {
			first := servers[0]
			answer := servers[i].Do(t, "CLUSTER", "MEET", "127.0.0.1", port(t, first.Address), first.busPort)
			if answer != "+OK" {
				t.Fatal(answer)
			}
		}
	}
	for _, s := range servers {
		Eventually(t, "the cluster to be whole", func() bool {
			text := s.Text(t, "CLUSTER", "INFO")
			return strings.Contains(text, "cluster_state:ok") && strings.Contains(text, fmt.Sprintf("cluster_known_nodes:%d", masters))
		})
	}
	others := ""
	for _, s := range servers[1:] {
		others += "&addr=" + s.Address
	}
	return "redis://" + servers[0].Address + "?" + strings.TrimPrefix(others, "&"), servers
}

// StartSentinel starts a Sentinel that watches over a master called main, and returns its address for --redis.
func StartSentinel(t testing.TB, master *Server) (string, *Server) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor main 127.0.0.1 %s 1\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n", port(t, master.Address))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, file, "--sentinel", "--bind", "127.0.0.1")
	return "redis://" + s.Address + "?master_set=main", s
}

func port(t testing.TB, address string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Eventually waits until something is so.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
