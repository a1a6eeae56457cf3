package main

import (
	"strings"
	"testing"
)

// The operator of an unclaimed installation always sees the claim code, and on loopback that a browser of the same machine
// needs none.
func TestClaimCodeIsPrinted(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for listen, exception := range map[string]bool{"127.0.0.1:0": true, "0.0.0.0:0": false} {
		s := serveWith(t, nil, "--listen", listen, "--data", data)
		code := s.await(s.out, `needs the claim code\n\n  ([a-z2-7]{4}(?:-[a-z2-7]{4}){3})\n\n`)
		s.stop()
		said := s.out.String()
		if strings.Contains(said, "A browser on this machine") != exception {
			t.Errorf("on %s it says that this machine needs no code: %v, want %v\n%s", listen, !exception, exception, said)
		}
		if strings.Contains(s.err.String(), code) {
			t.Errorf("on %s the code is in the log", listen)
		}
	}
}
