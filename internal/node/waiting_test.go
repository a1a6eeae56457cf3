package node_test

import (
	"testing"
	"time"

	"berth/internal/node"
	"berth/internal/node/nodetest"
)

func TestMemoryWaitingContract(t *testing.T) {
	nodetest.WaitingContract(t, func(_ *testing.T, now func() time.Time) node.WaitingStore { return node.NewMemoryWaiting(now) })
}
