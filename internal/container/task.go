package container

import (
	"strconv"
	"strings"

	"berth/internal/pve"
)

// changes tells which guest a task changes. Consoles and shells change none.
func changes(t pve.Task) (vmid int, ok bool) {
	if strings.HasSuffix(t.UPID.Type, "proxy") || strings.HasSuffix(t.UPID.Type, "shell") {
		return 0, false
	}
	vmid, err := strconv.Atoi(t.UPID.ID)
	return vmid, err == nil && vmid > 0
}
