package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// picturesFolder is where the tests leave pictures for people to look at.
const picturesFolder = "pictures"

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of these tests wait for the browser or for a delay that is meant, so more of them than there are processors
	// go side by side, unless the command line says otherwise.
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0)))); err != nil {
			panic(err) // a flag of package testing
		}
	}
	if !testing.Verbose() {
		slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	}
	code := m.Run()
	if started.cancel != nil {
		if err := closeBrowser(); err != nil {
			fmt.Fprintln(os.Stderr, "the browser did not close:", err)
			code = max(code, 1)
		}
	}
	if built.folder != "" {
		if err := os.RemoveAll(built.folder); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// built is the program, made once for all tests.
var built struct {
	once         sync.Once
	folder, path string
	err          error
}

// binary is the path of the program that these tests are about.
func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.folder, built.err = os.MkdirTemp("", "berth-e2e-*"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.folder, "berth")
		build := exec.Command("go", "build", "-o", built.path, "./cmd/berth")
		build.Dir = ".."
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// started is the browser, one for all tests: each has a profile of its own in it.
var started struct {
	once   sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	absent bool
	err    error
}

// browser is the context of the running browser, for chromedp.
func browser(t testing.TB) context.Context {
	t.Helper()
	started.once.Do(startBrowser)
	switch {
	case started.absent:
		missing(t, "chromium", "there is no Chromium here: none of "+strings.Join(browserNames, ", ")+" is in PATH")
	case started.err != nil:
		t.Fatal("the browser does not start: ", started.err)
	}
	return started.ctx
}

var browserNames = []string{"chromium", "chromium-browser", "google-chrome"}

func startBrowser() {
	path := ""
	for _, name := range browserNames {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		started.absent = true
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("no-pings", true),
		// Nothing but this machine can be reached, over no proxy, and by no name but one for the tests of strange sites.
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("host-resolver-rules", "MAP "+strangeSite+" 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"),
		chromedp.WindowSize(1280, 800),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses to run as root
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(allocator)
	started.ctx = ctx
	started.cancel = func() { stop(); stopAllocator() }
	started.err = chromedp.Do(ctx)
}

func closeBrowser() error {
	defer started.cancel()
	if started.err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(started.ctx, 10*time.Second)
	defer cancel()
	return chromedp.Cancel(ctx)
}
