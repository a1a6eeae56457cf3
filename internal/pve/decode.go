package pve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds on the shape of an answer, several times what the largest clusters need. A small but dense text could unfold to
// many times its size otherwise, and a deeply nested one exhaust the stack.
const (
	maxDepth   = 64
	maxRows    = 1 << 16
	maxMembers = 1 << 12  // of one object
	maxRow     = 64 << 10 // bytes of one entry of a list
)

var errShape = fmt.Errorf("the answer has more than %d entries, %d members of one entry, %d bytes of it or %d levels",
	maxRows, maxMembers, maxRow, maxDepth)

// shape follows the brackets and commas of a JSON text as it passes by, and refuses one that exceeds the bounds before
// any of it is unfolded. It takes no memory for the text; whether that is JSON is not its question.
type shape struct {
	depth           int
	commas, limit   [maxDepth + 1]int
	inText, escaped bool
	// row bounds the entries of lists at the second level, which are those of an answer's data; 0 means no bound.
	row, length int
}

func (s *shape) pass(text []byte) error {
	for _, c := range text {
		if s.length++; s.row > 0 && s.length > s.row {
			return errShape
		}
		if s.inText {
			switch {
			case s.escaped:
				s.escaped = false
			case c == '\\':
				s.escaped = true
			case c == '"':
				s.inText = false
			}
			continue
		}
		switch c {
		case '"':
			s.inText = true
		case '[', '{':
			if s.depth == maxDepth {
				return errShape
			}
			s.depth++
			s.commas[s.depth], s.limit[s.depth] = 0, maxMembers
			if c == '[' {
				s.limit[s.depth] = maxRows
			}
		case ']', '}':
			s.depth = max(s.depth-1, 0)
		case ',':
			if s.commas[s.depth]++; s.depth > 0 && s.commas[s.depth] >= s.limit[s.depth] {
				return errShape
			}
		default:
			continue
		}
		if s.depth <= 2 && !s.inText {
			s.length = 0
		}
	}
	return nil
}

// checkShape is pass for a whole text.
func checkShape(text []byte) error {
	var s shape
	return s.pass(text)
}

var errTooLong = errors.New("the answer is too long")

// bounded reads an answer's body as far as its bounds allow. The first error stays, so that whoever decodes it need not
// tell a strange answer from one that broke off.
type bounded struct {
	from  io.Reader
	left  int64
	shape shape
	err   error // but io.EOF
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	// One byte more than is left tells a body that fits from one that doesn't.
	p = p[:min(int64(len(p)), b.left+1)]
	n, err := b.from.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		b.err = errTooLong
	case b.shape.pass(p[:n]) != nil:
		b.err = errShape
	case err != nil && err != io.EOF:
		b.err = err
	}
	if b.err != nil {
		return 0, b.err
	}
	return n, err
}

// decodeRows reads the entries of a list whose opening bracket was read already, one by one, so that only what take keeps
// of them is in memory. The record is take's for the call alone. An error of take ends it.
func decodeRows(dec *json.Decoder, take func(record) error) error {
	var r record
	for dec.More() {
		clear(r)
		if err := dec.Decode(&r); err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if err := take(r); err != nil {
			return err
		}
	}
	_, err := dec.Token() // the closing bracket
	return err
}

// record is a JSON object whose fields are read one by one. Perl sends numbers as strings and booleans as 0 and 1, as the
// value was used last; versions add fields and drop others. So a field that is absent, null or not what was expected is
// its zero value: one odd figure must not empty a page. What a caller can't do without, it checks itself.
type record map[string]json.RawMessage

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// text is the text of a field that is a string, a number or a boolean.
func (r record) text(name string) string {
	raw := r[name]
	if isNull(raw) {
		return ""
	}
	switch raw[0] {
	case '"':
		if s := raw[1 : len(raw)-1]; isPlain(s) {
			return string(s)
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case '{', '[':
		return ""
	}
	return string(raw)
}

// isPlain tells whether the inside of a JSON string is its text as it stands, as nearly all are.
func isPlain(s []byte) bool {
	return !bytes.ContainsFunc(s, func(c rune) bool { return c < ' ' || c >= utf8.RuneSelf || c == '\\' })
}

// maxName bounds a name or word; PVE's own longest are host names.
const maxName = 253

// name is a text that people are shown and that stands in the middle of others: a name, a status, an address. What can't
// be seen is left out of it, such as control characters and those that turn the direction of writing (Unicode's Cc and
// Cf), and so is what is beyond its bound; so nothing that a host sends can move, hide or imitate what stands around it.
// Names that PVE gives have none of these.
func (r record) name(field string) string { return printable(r.text(field), maxName) }

// prose is name for a text of one line that somebody wrote: a comment, the reason of an error, a line of a log.
func (r record) prose(field string) string { return printable(r.text(field), maxMessage) }

// object is a field that is an object itself; nil, which reads as empty, if it isn't.
func (r record) object(name string) record {
	var inner record
	if json.Unmarshal(r[name], &inner) != nil {
		return nil
	}
	return inner
}

// objects is a field that is a list of objects; what in it is none reads as empty.
func (r record) objects(name string) []record {
	var raw []json.RawMessage
	if isNull(r[name]) || json.Unmarshal(r[name], &raw) != nil {
		return nil
	}
	list := make([]record, len(raw))
	for i := range raw {
		if json.Unmarshal(raw[i], &list[i]) != nil {
			list[i] = nil
		}
	}
	return list
}

func (r record) float(name string) float64 {
	f, err := strconv.ParseFloat(strings.TrimSpace(r.text(name)), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// int also reads 1.5e9 and 12.0, and stops at the ends of int64.
func (r record) int(name string) int64 {
	s := strings.TrimSpace(r.text(name))
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i
	}
	switch f := r.float(name); {
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	default:
		return int64(f)
	}
}

// bool follows Perl's idea of truth as far as PVE uses it.
func (r record) bool(name string) bool {
	switch strings.ToLower(r.text(name)) {
	case "", "0", "false", "no", "off":
		return false
	}
	return true
}

// time reads Unix seconds; absent and 0 are the zero time.
func (r record) time(name string) time.Time {
	if s := r.int(name); s > 0 && s <= maxUnix {
		return time.Unix(s, 0)
	}
	return time.Time{}
}

// maxUnix is the end of the year 9999, beyond which times can't be written as RFC 3339.
const maxUnix = 253402300799

func (r record) seconds(name string) time.Duration {
	return time.Duration(min(max(r.int(name), 0), int64(math.MaxInt64/time.Second))) * time.Second
}

// words reads a list that PVE writes as one string, separated by semicolons, commas or spaces (Tools.pm split_list).
// Each word is cleaned as a name is, and there are at most maxWords of them.
func (r record) words(name string) []string {
	var words []string
	for word := range strings.FieldsFuncSeq(r.text(name), func(c rune) bool {
		return c == ';' || c == ',' || c == ' ' || c == '\t' || c == '\n' || c == 0
	}) {
		if len(words) == maxWords {
			break
		}
		if word = printable(word, maxName); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// maxWords bounds the words of one list, the tags of a container for one.
const maxWords = 64
