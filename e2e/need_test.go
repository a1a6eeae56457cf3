package e2e

import (
	"testing"

	"berth/internal/testneed"
)

// missing ends a test that lacks something: skipped, or failed where the environment says that the thing must be there.
func missing(t testing.TB, thing, sentence string) {
	t.Helper()
	testneed.Missing(t, thing, sentence)
}
