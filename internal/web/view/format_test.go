package view

import (
	"math"
	"testing"
	"time"
)

func TestFormatBytes(t *testing.T) {
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	for _, c := range []struct {
		n    int64
		want string
	}{
		{-1, "0 B"}, {0, "0 B"}, {1, "1 B"}, {999, "999 B"}, {1000, "0.98 KiB"}, {kib, "1.00 KiB"},
		{1536, "1.50 KiB"}, {512 * mib, "512 MiB"}, {gib, "1.00 GiB"}, {12*gib + 400*mib, "12.4 GiB"},
		{999*mib + 600*kib, "0.98 GiB"}, {1023 * mib, "1.00 GiB"}, {2 << 40, "2.00 TiB"}, {math.MaxInt64, "8.00 EiB"},
	} {
		if got := FormatBytes(c.n); got != c.want {
			t.Errorf("FormatBytes(%d) = %q, want %q", c.n, got, c.want)
		}
	}
}

func TestFormatUsage(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for _, c := range []struct {
		used, whole int64
		want        string
	}{
		{412 * mib, gib, "412 MiB / 1.00 GiB"},
		{1536 * mib, 8 * gib, "1.50 / 8.00 GiB"},
		{100 * mib, 512 * mib, "100 / 512 MiB"},
		{0, 512 * mib, "0 B / 512 MiB"},
		{3, 7, "3 B / 7 B"},
		{412 * mib, 0, "412 MiB"},
	} {
		if got := FormatUsage(c.used, c.whole); got != c.want {
			t.Errorf("FormatUsage(%d, %d) = %q, want %q", c.used, c.whole, got, c.want)
		}
	}
}

func TestFormatPercentAndCores(t *testing.T) {
	for fraction, want := range map[float64]string{
		0: "0.0 %", 0.032: "3.2 %", 0.0994: "9.9 %", 0.0996: "10 %", 0.5: "50 %", 1: "100 %", 1.02: "102 %", -1: "0.0 %",
	} {
		if got := FormatPercent(fraction); got != want {
			t.Errorf("FormatPercent(%v) = %q, want %q", fraction, got, want)
		}
	}
	if got := FormatPercent(math.NaN()); got != "0.0 %" {
		t.Errorf("FormatPercent(NaN) = %q", got)
	}
	for cores, want := range map[float64]string{1: "1 core", 2: "2 cores", 0.5: "0.5 cores", 128: "128 cores"} {
		if got := FormatCores(cores); got != want {
			t.Errorf("FormatCores(%v) = %q, want %q", cores, got, want)
		}
	}
}

func TestFormatUptime(t *testing.T) {
	for seconds, want := range map[int64]string{
		-5: "0 s", 0: "0 s", 59: "59 s", 60: "1 min", 185: "3 min 5 s", 3600: "1 h", 4*3600 + 12*60 + 9: "4 h 12 min",
		86400: "1 d", 12*86400 + 4*3600 + 59: "12 d 4 h", 400 * 86400: "400 d",
	} {
		if got := FormatUptime(seconds); got != want {
			t.Errorf("FormatUptime(%d) = %q, want %q", seconds, got, want)
		}
	}
}

func TestFormatAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", 0: "just now", 12 * time.Second: "12 seconds ago", time.Minute: "1 minute ago",
		4*time.Minute + 30*time.Second: "4 minutes ago", 3 * time.Hour: "3 hours ago", 50 * time.Hour: "2 days ago",
	} {
		if got := FormatAgo(d); got != want {
			t.Errorf("FormatAgo(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestFraction(t *testing.T) {
	for _, c := range []struct {
		part, whole int64
		want        float64
	}{{0, 0, 0}, {1, 2, 0.5}, {5, 2, 1}, {-1, 2, 0}, {1, -1, 0}} {
		if got := fraction(c.part, c.whole); got != c.want {
			t.Errorf("fraction(%d, %d) = %v, want %v", c.part, c.whole, got, c.want)
		}
	}
	if clamp(math.NaN()) != 0 || clamp(math.Inf(1)) != 1 {
		t.Error("clamp lets what is no fraction through")
	}
}

func TestTagHue(t *testing.T) {
	// People learn the colours of their tags: another release must not shuffle them.
	for tag, want := range map[string]string{"media": "3", "web": "1", "": "5"} {
		if got := tagHue(tag); got != want {
			t.Errorf("tagHue(%q) = %s, want %s", tag, got, want)
		}
	}
	seen := map[string]bool{}
	for _, tag := range []string{"media", "web", "db", "backup", "dns", "test", "prod", "home", "git", "mail", "iot", "vpn"} {
		seen[tagHue(tag)] = true
	}
	if len(seen) < 4 {
		t.Errorf("twelve tags share %d colours", len(seen))
	}
}
