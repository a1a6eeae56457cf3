package sim

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// schema is an endpoint's parameter list, made ready for checking. The texts are those of PVE::JSONSchema (pve-common).
type schema struct {
	known    map[string]*param
	indexed  map[string]*param // for a name such as net[n], by what stands before the bracket
	patterns map[*param]*regexp.Regexp
}

// pathParams are the parameters that path templates use without an endpoint's declaring them.
var pathParams = map[string]param{
	"vmid": {name: "vmid", kind: "integer", min: 100, max: 999999999},
}

func newSchema(e *endpoint, placeholders []string) schema {
	s := schema{known: map[string]*param{}}
	for _, name := range placeholders {
		p, ok := pathParams[name]
		if !ok {
			p = param{name: name, kind: "string"}
		}
		p.required = true
		s.known[name] = &p
	}
	for i := range e.params {
		p := &e.params[i]
		if base, ok := strings.CutSuffix(p.name, "[n]"); ok {
			if s.indexed == nil {
				s.indexed = map[string]*param{}
			}
			s.indexed[base] = p
		} else {
			s.known[p.name] = p
		}
		if p.pattern != "" {
			if s.patterns == nil {
				s.patterns = map[*param]*regexp.Regexp{}
			}
			s.patterns[p] = regexp.MustCompile(p.pattern)
		}
	}
	return s
}

// find returns the declaration of a parameter, nil if the endpoint knows none of that name.
func (s *schema) find(name string) *param {
	if p := s.known[name]; p != nil {
		return p
	}
	base := strings.TrimRight(name, "0123456789")
	if base == name {
		return nil
	}
	return s.indexed[base]
}

// check is validate (PVE/JSONSchema.pm): everything that is wrong, by parameter. It rewrites booleans to 0 and 1.
func (s *schema) check(values map[string][]string) error {
	var wrong map[string]string
	report := func(name, why string) {
		if wrong == nil {
			wrong = map[string]string{}
		}
		wrong[name] = why
	}
	for name, v := range values {
		p := s.find(name)
		if p == nil {
			report(name, "property is not defined in schema and the schema does not allow additional properties")
			continue
		}
		if why := s.checkValue(p, v); why != "" {
			report(name, why)
		}
	}
	for name, p := range s.known {
		if _, given := values[name]; p.required && !given {
			report(name, "property is missing and it is not optional")
		}
	}
	if wrong != nil {
		return &reply{status: 400, reason: "Parameter verification failed.", fields: wrong}
	}
	return nil
}

func (s *schema) checkValue(p *param, values []string) string {
	if p.kind == "array" {
		return ""
	}
	if len(values) != 1 {
		return fmt.Sprintf("type check ('%s') failed - got ARRAY", p.kind)
	}
	v := values[0]
	mismatch := fmt.Sprintf("type check ('%s') failed - got '%s'", p.kind, v)
	switch p.kind {
	case "integer":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return mismatch
		}
		if p.max > p.min {
			if n < p.min {
				return fmt.Sprintf("value must have a minimum value of %d", p.min)
			}
			if n > p.max {
				return fmt.Sprintf("value must have a maximum value of %d", p.max)
			}
		}
	case "number":
		if _, err := strconv.ParseFloat(v, 64); err != nil {
			return mismatch
		}
	case "boolean":
		switch strings.ToLower(v) {
		case "1", "on", "yes", "true":
			values[0] = "1"
		case "0", "off", "no", "false":
			values[0] = "0"
		default:
			return mismatch
		}
	default:
		if n := int64(len(v)); p.max > p.min {
			if n < p.min {
				return fmt.Sprintf("value must be at least %d characters long", p.min)
			}
			if n > p.max {
				return fmt.Sprintf("value may only be %d characters long", p.max)
			}
		}
		if re := s.patterns[p]; re != nil && !re.MatchString(v) {
			return "value does not match the regex pattern"
		}
	}
	if len(p.enum) > 0 {
		for _, allowed := range p.enum {
			if v == allowed {
				return ""
			}
		}
		return fmt.Sprintf("value '%s' does not have a value in the enumeration '%s'", v, strings.Join(p.enum, ", "))
	}
	return ""
}
