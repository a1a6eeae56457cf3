package config

import (
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Shared are the flags of what several replicas share, as they were given.
type Shared struct {
	Redis     string `placeholder:"URL" env:"BERTH_REDIS" help:"Redis or Valkey that several replicas share: redis://, rediss:// (TLS) or unix://, with user and password if need be; see docs/deployment.md. Default: none, for one replica."`
	RedisFile string `placeholder:"FILE" env:"BERTH_REDIS_FILE" help:"File that holds what --redis would say, so that a password in it is not on the command line."`
}

// maxURL bounds what is read of a file that holds an address.
const maxURL = 8 << 10

// check returns the address of Redis, or adds problems. They never repeat it: it may hold a password.
func (s Shared) check(p *Problems) string {
	text, flag, variable := strings.TrimSpace(s.Redis), "redis", "BERTH_REDIS"
	if s.RedisFile != "" {
		flag, variable = "redis-file", "BERTH_REDIS_FILE"
		if text != "" {
			p.add(flag, variable, "it can't be combined with --redis")
			return ""
		}
		if !isPath(p, flag, variable, s.RedisFile) {
			return ""
		}
		content, err := os.ReadFile(s.RedisFile)
		switch {
		case err != nil:
			p.add(flag, variable, "%v", err)
			return ""
		case len(content) > maxURL:
			p.add(flag, variable, "%s holds more than one address", s.RedisFile)
			return ""
		}
		if text = strings.TrimSpace(string(content)); text == "" {
			p.add(flag, variable, "%s is empty", s.RedisFile)
			return ""
		}
	}
	if text == "" {
		return ""
	}
	if why := badRedis(text); why != "" {
		p.add(flag, variable, "%s", why)
		return ""
	}
	return text
}

// redisParameters are what the address of Redis may say behind its question mark.
var redisParameters = []string{"addr", "master_set", "sentinel_user", "sentinel_password", "db"}

// badRedis says what is wrong with an address of Redis, without repeating any of it.
func badRedis(text string) string {
	const forms = "it must be an address such as redis://:PASSWORD@redis.lan:6379/0, rediss://USER:PASSWORD@redis.lan:6379 or unix:///run/redis/redis.sock"
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return forms
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return forms
	}
	for name := range query {
		if !slices.Contains(redisParameters, name) {
			return "behind the ? it may say " + strings.Join(redisParameters, ", ") + " and nothing else"
		}
	}
	number := query.Get("db")
	switch u.Scheme {
	case "unix":
		if !path.IsAbs(u.Path) || u.Host != "" || query.Has("addr") || query.Has("master_set") {
			return forms
		}
	case "redis", "rediss":
		if u.Hostname() == "" {
			return forms
		}
		if inPath := strings.Trim(u.Path, "/"); inPath != "" {
			number = inPath
		}
	default:
		return forms
	}
	if n, err := strconv.Atoi(number); number != "" && (err != nil || n < 0 || n > 1<<16) {
		return "the database must be a whole number, such as 0"
	}
	if number != "" && number != "0" && len(query["addr"]) > 0 && !query.Has("master_set") {
		return "a cluster has no other database than 0"
	}
	return ""
}
