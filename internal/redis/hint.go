package redis

import (
	"slices"
	"strconv"
	"strings"

	"berth/internal/container"
	"berth/internal/pve"
)

// A message is a few words with one space between them: the version of this form, the replica that it is from, the kind, an id
// and for some kinds a detail. What is not exactly of this form is no message.
const (
	hintVersion = "1"
	maxMessage  = 200
	maxHintID   = 64
)

const (
	kindRead    = "read"    // a node's id; the subject whose list shows something else
	kindTouched = "touched" // a node's id; the VMID of a guest that was changed
	kindNodes   = "nodes"   // the hash of an identity whose nodes have changed
)

// hint is what a message says, but for whom it is from.
type hint struct{ kind, id, detail string }

func touchedHint(node string, vmid int) hint {
	return hint{kind: kindTouched, id: node, detail: strconv.Itoa(vmid)}
}

func (h hint) encode(from string) string {
	words := []string{hintVersion, from, h.kind, h.id}
	if h.detail != "" {
		words = append(words, h.detail)
	}
	return strings.Join(words, " ")
}

// decodeHint reads a message, whoever wrote it.
func decodeHint(text string) (from string, h hint, ok bool) {
	if len(text) > maxMessage {
		return "", hint{}, false
	}
	words := strings.Split(text, " ")
	if len(words) < 4 || len(words) > 5 || words[0] != hintVersion || !isID(words[1]) || !isID(words[3]) {
		return "", hint{}, false
	}
	from, h = words[1], hint{kind: words[2], id: words[3]}
	if len(words) == 5 {
		h.detail = words[4]
	}
	switch h.kind {
	case kindRead:
		ok = slices.Contains(container.Subjects, container.Subject(h.detail))
	case kindTouched:
		vmid, err := strconv.Atoi(h.detail)
		ok = err == nil && vmid >= pve.MinVMID && vmid <= pve.MaxVMID && strconv.Itoa(vmid) == h.detail
	case kindNodes:
		ok = len(words) == 4
	}
	if !ok {
		return "", hint{}, false
	}
	return from, h, true
}

// isID tells whether a text can be an id of Berth's own.
func isID(text string) bool {
	return text != "" && len(text) <= maxHintID && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// tell passes a hint on.
func (h hint) tell(to Heard) {
	switch h.kind {
	case kindRead:
		to.Read(h.id, container.Subject(h.detail))
	case kindTouched:
		vmid, _ := strconv.Atoi(h.detail) // which it is, being decoded
		to.Touched(h.id, vmid)
	case kindNodes:
		to.Nodes(h.id)
	}
}
