package store

import (
	"testing"

	"berth/internal/task"
	"berth/internal/task/tasktest"
)

func TestTaskContract(t *testing.T) {
	tasktest.Contract(t, func(t *testing.T) task.Store { return openTest(t, t.TempDir()) })
}
