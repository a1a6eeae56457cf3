// Package metrics counts what Berth does, and shows it to Prometheus.
//
// It knows nothing of Berth but what it is told, by functions that the parts of Berth call through hooks of their own. No label
// ever holds the name of a user, a container or a host; what others can make as many of as they like, such as nodes, has at most
// maxNodes values, and what is beyond that is summed under one.
package metrics
