package redis_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/internal/auth"
	"berth/internal/auth/openidtest"
	"berth/internal/auth/pendingtest"
	"berth/internal/auth/throttletest"
	"berth/internal/redis"
	"berth/internal/redis/redistest"
	"berth/internal/session"
	"berth/internal/session/sessiontest"
	"berth/internal/task"
	"berth/internal/task/tasktest"
)

// permissions are what docs/deployment.md says that Berth's user needs.
func permissions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)user needs\\s+`([^`]*)`").FindSubmatch(text)
	if found == nil {
		t.Fatal("docs/deployment.md does not say what Berth's user needs")
	}
	return strings.Fields(string(found[1]))
}

// Everything works with the permissions that the documentation names.
func TestDocumentedPermissions(t *testing.T) {
	server := redistest.Start(t)
	rules := append([]string{"ACL", "SETUSER", "berth", "on", ">s3cret", "~*", "resetchannels", "&berth:events"}, permissions(t)...)
	if answer := server.Do(t, rules...); answer != "+OK" {
		t.Fatal(answer)
	}
	url := "redis://berth:s3cret@" + server.Address
	client, sealer := open(t, url), newSealer(t)
	empty := func(t *testing.T) { server.Do(t, "FLUSHALL") }
	sessiontest.Contract(t, func(t *testing.T) sessiontest.Fixture {
		empty(t)
		db := openStore(t)
		return sessiontest.Fixture{
			Store: redis.NewSessions(client, db, session.DefaultIdle, atBegin),
			NewHost: func(t *testing.T) (string, string) {
				h := admit(t, db)
				return h.Datacenter, h.ID
			},
		}
	})
	pendingtest.Contract(t, func(t *testing.T, now func() time.Time) auth.PendingStore {
		empty(t)
		return redis.NewPending(client, sealer, now)
	})
	openidtest.Contract(t, func(t *testing.T, now func() time.Time) auth.OpenIDStore {
		empty(t)
		return redis.NewOpenID(client, sealer, now)
	})
	throttletest.Contract(t, func(t *testing.T) auth.ThrottleStore {
		empty(t)
		return redis.NewThrottle(client)
	})
	tasktest.Contract(t, func(t *testing.T) task.Store {
		empty(t)
		return redis.Operations{Store: openStore(t), Client: client}
	})
	redistest.Eventually(t, "readiness", func() bool { return client.Ready(t.Context()) == nil })
	i := newInstallation(t)
	one, two := i.replica(t, url), i.replica(t, url)
	token, s := one.start(t, i.grant)
	two.trusted(t)
	two.alive(t, token)
	if err := one.registry.End(t.Context(), s.Hash); err != nil {
		t.Fatal(err)
	}
	two.eventually(t, token, session.ErrNone)
}
