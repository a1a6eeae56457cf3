package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRedisAddress(t *testing.T) {
	for _, good := range []string{
		"redis://redis.lan", "redis://redis.lan:6380/3", "rediss://berth:s3cret@redis.lan:6379", "redis://:s3cret@[2001:db8::1]:6379/0",
		"unix:///run/redis.sock?db=2", "unix://berth:s3cret@/run/redis.sock",
		"redis://a:7000?addr=b:7000&addr=c:7000", "redis://a:26379/2?addr=b:26379&master_set=main&sentinel_password=x",
	} {
		got, err := serve(t, func(s *Serve) { s.Redis = good }).Check()
		if err != nil || got.Redis != good {
			t.Errorf("%s: %q, %v", good, got.Redis, err)
		}
	}
	for bad, problem := range map[string]string{
		"redis.lan:6379":                     "such as redis://",
		"http://:s3cret@redis.lan":           "such as redis://",
		"redis://":                           "such as redis://",
		"redis://:s3cret@redis.lan:x":        "such as redis://",
		"redis://:s3cret@redis.lan/one":      "whole number",
		"redis://:s3cret@redis.lan?db=-1":    "whole number",
		"redis://redis.lan?skip_verify=true": "nothing else",
		"redis://:s3cret@a:1/3?addr=b:1":     "no other database",
		"unix://run/redis.sock":              "such as redis://",
		"redis://:s3cret@redis.lan#x":        "such as redis://",
	} {
		_, err := serve(t, func(s *Serve) { s.Redis = bad }).Check()
		if err == nil || !strings.Contains(err.Error(), problem) || !strings.Contains(err.Error(), "--redis (BERTH_REDIS)") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want a problem with %q", bad, err, problem)
		}
	}
}

func TestRedisAddressInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "redis")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("redis://:s3cret@redis.lan\n")
	got, err := serve(t, func(s *Serve) { s.RedisFile = file }).Check()
	if err != nil || got.Redis != "redis://:s3cret@redis.lan" {
		t.Errorf("%q, %v", got.Redis, err)
	}
	check := func(problem string, change func(*Serve)) {
		t.Helper()
		_, err := serve(t, change).Check()
		if err == nil || !strings.Contains(err.Error(), problem) || !strings.Contains(err.Error(), "--redis-file (BERTH_REDIS_FILE)") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v, want a problem with %q", err, problem)
		}
	}
	check("combined with --redis", func(s *Serve) { s.Redis, s.RedisFile = "redis://redis.lan", file })
	check("no such file", func(s *Serve) { s.RedisFile = file + "x" })
	write("gopher://:s3cret@redis.lan")
	check("such as redis://", func(s *Serve) { s.RedisFile = file })
	write(" \n")
	check("is empty", func(s *Serve) { s.RedisFile = file })
}
