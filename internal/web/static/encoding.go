package static

import (
	"strconv"
	"strings"
)

// The content codings that assets are stored in.
const (
	identity = "identity"
	brotli   = "br"
	gzip     = "gzip"
)

// preferred picks a content coding from the Accept-Encoding lines of a request (RFC 9110, section 12.5.3): the one with
// the highest weight, the smaller file where weights are equal. What the client doesn't mention it doesn't get, and a
// request that refuses everything gets identity, as the RFC allows.
func preferred(lines []string) string {
	weights := map[string]float64{brotli: -1, gzip: -1, identity: -1}
	anything := -1.0
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			coding, params, _ := strings.Cut(item, ";")
			coding = strings.ToLower(strings.TrimSpace(coding))
			if coding == "x-gzip" {
				coding = gzip
			}
			weight := quality(params)
			if coding == "*" {
				anything = weight
			} else if _, known := weights[coding]; known {
				weights[coding] = weight
			}
		}
	}
	best, highest := identity, max(weights[identity], 0)
	for _, coding := range [...]string{gzip, brotli} {
		weight := weights[coding]
		if weight < 0 {
			weight = anything
		}
		if weight > 0 && weight >= highest {
			best, highest = coding, weight
		}
	}
	return best
}

// TakesGzip tells whether a request with these Accept-Encoding lines may be answered in gzip.
func TakesGzip(lines []string) bool {
	named, anything := -1.0, -1.0
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			coding, params, _ := strings.Cut(item, ";")
			switch coding = strings.TrimSpace(coding); {
			case strings.EqualFold(coding, gzip), strings.EqualFold(coding, "x-gzip"):
				named = quality(params)
			case coding == "*":
				anything = quality(params)
			}
		}
	}
	return named > 0 || named < 0 && anything > 0
}

// quality reads the weight among the parameters of one coding: 1 without any, 0 when it can't be read, since what is
// unclear is better not sent.
func quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		weight, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(weight >= 0 && weight <= 1) {
			return 0
		}
		return weight
	}
	return 1
}
