package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTraces(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "headers")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		given    Traces
		endpoint string
		problems int
	}{
		{Traces{}, "", 0},
		{Traces{TracesEndpoint: "http://127.0.0.1:4318"}, "http://127.0.0.1:4318/v1/traces", 0},
		{Traces{TracesEndpoint: "https://collector.lan/otlp/v1/traces", TracesHeadersFile: file("Authorization: Bearer s3cret\n\nX-Tenant: a\n")}, "https://collector.lan/otlp/v1/traces", 0},
		{Traces{TracesEndpoint: "collector.lan:4318"}, "", 1},
		{Traces{TracesEndpoint: "http://user:s3cret@collector.lan"}, "", 1},
		{Traces{TracesEndpoint: "http://collector.lan?token=s3cret"}, "", 1},
		{Traces{TracesHeadersFile: file("X-Tenant: a")}, "", 1},
		{Traces{TracesEndpoint: "http://collector.lan", TracesHeadersFile: file("s3cret\nX Y: s3cret\nX-Tenant:\nX-Tenant: s3\x00cret")}, "http://collector.lan/v1/traces", 4},
		{Traces{TracesEndpoint: "http://collector.lan", TracesHeadersFile: file(strings.Repeat("X-Tenant: s3cret\n", 1<<10))}, "http://collector.lan/v1/traces", 1},
		{Traces{TracesEndpoint: "http://collector.lan", TracesHeadersFile: "/nowhere/headers"}, "http://collector.lan/v1/traces", 1},
	} {
		var p Problems
		got := test.given.check(&p)
		if got.Endpoint != test.endpoint || len(p) != test.problems || strings.Contains(p.Error(), "s3cret") {
			t.Errorf("%+v: %+v with %q", test.given, got.Endpoint, p)
		}
		if test.problems == 0 && test.given.TracesHeadersFile != "" && (got.Headers.Get("Authorization") != "Bearer s3cret" || got.Headers.Get("X-Tenant") != "a") {
			t.Errorf("headers %v", got.Headers)
		}
	}
}
