package store

import (
	"testing"

	"berth/internal/task"
	"berth/internal/task/tasktest"
)

func TestTaskContract(t *testing.T) {
	suite(t, func(t *testing.T, fresh func(t *testing.T) *Store) {
		tasktest.Contract(t, func(t *testing.T) task.Store { return fresh(t) })
	})
}
