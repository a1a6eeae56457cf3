package sim

import "strings"

// router finds endpoints by path template. Templates are few (some dozens), paths are short: a tree of segments with
// at most one placeholder per level is all that PVE's own find_handler knows too (pve-common, PVE/RESTHandler.pm).
type router struct{ root routeNode }

type routeNode struct {
	next        map[string]*routeNode
	placeholder string // the parameter that this level's free segment names
	free        *routeNode
	methods     map[string]*route
}

// route is an endpoint with what is worked out from it once.
type route struct {
	endpoint
	schema schema
}

// restOfPath is the placeholder that swallows all further segments: volume ids contain slashes (fragmentDelimiter in
// PVE/API2/Storage/Content.pm).
const restOfPath = "volume"

// add registers e, replacing an endpoint with the same method and path. It panics on templates that contradict each
// other, since those are written in this package.
func (r *router) add(e endpoint) {
	n := &r.root
	var placeholders []string
	for segment := range strings.SplitSeq(strings.Trim(e.path, "/"), "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			name = strings.TrimSuffix(name, "}")
			if n.free == nil {
				n.free, n.placeholder = &routeNode{}, name
			} else if n.placeholder != name {
				panic("sim: " + e.path + ": this level is called {" + n.placeholder + "} already")
			}
			n = n.free
			placeholders = append(placeholders, name)
			continue
		}
		if n.next == nil {
			n.next = map[string]*routeNode{}
		}
		if n.next[segment] == nil {
			n.next[segment] = &routeNode{}
		}
		n = n.next[segment]
	}
	if n.methods == nil {
		n.methods = map[string]*route{}
	}
	n.methods[e.method] = &route{endpoint: e, schema: newSchema(&e, placeholders)}
}

// find returns the route for a method and path, and the path's parameters; nil if there is none. Fixed segments win
// over placeholders.
func (r *router) find(method, path string) (*route, map[string]string) {
	n := &r.root
	var values map[string]string
	for path = strings.Trim(path, "/"); path != ""; {
		segment, rest, _ := strings.Cut(path, "/")
		path = strings.TrimLeft(rest, "/")
		if fixed := n.next[segment]; fixed != nil {
			n = fixed
			continue
		}
		if n.free == nil {
			return nil, nil
		}
		if n.placeholder == restOfPath && path != "" {
			segment, path = segment+"/"+path, ""
		}
		if values == nil {
			values = map[string]string{}
		}
		values[n.placeholder] = segment
		n = n.free
	}
	return n.methods[method], values
}
