package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/a-h/templ"

	"berth/internal/container"
	"berth/internal/session"
	"berth/internal/web/view"
)

const (
	// sharedFor is how long a page is shared. What it shows of the containers is told by its version, so that a change is
	// seen at once; this is for the rest of it, such as how long ago something was.
	sharedFor = time.Second
	// maxSharedPages bounds the pages that are shared at the same time, which are a few dozen kilobytes each.
	maxSharedPages = 64
)

// pageOf tells pages of the list of containers apart: of equal ones, everything that is shown is equal. It holds whose page
// it is, so that nobody is sent anybody else's.
type pageOf struct {
	identity session.Identity
	signedIn bool
	shell    string
	query    container.Query
	version  string // of what the caller sees
	layout   string
}

func newPageOf(caller session.Caller, shell view.Shell, query container.Query, version string, layout view.Layout) pageOf {
	of := pageOf{identity: caller.Identity, signedIn: caller.SignedIn(), query: query, version: version}
	var text strings.Builder
	for _, part := range []string{shell.Title, shell.BasePath, shell.UserID, shell.Host, shell.Current} {
		text.WriteString(part)
		text.WriteByte(0)
	}
	if shell.Insecure {
		text.WriteByte('!')
	}
	for _, link := range shell.Settings {
		text.WriteString(link.Name)
		text.WriteByte(0)
	}
	of.shell = text.String()
	of.layout = strings.Join(layout.Columns, "\x00")
	if layout.Columns == nil {
		of.layout = "\x01"
	}
	if layout.Cards {
		of.layout += "\x02"
	}
	return of
}

// sharedPages are pages that were packed a moment ago. Many tabs of one person, or of everybody who signs in as root@pam, ask
// for the same page after each change, and making it costs a hundred times what sending it does.
type sharedPages struct {
	mu    sync.Mutex
	pages map[pageOf]*sharedPage
}

type sharedPage struct {
	made   time.Time
	once   sync.Once
	packed []byte
	err    error
}

// page returns a packed page that was made within sharedFor, or makes it, once for all who wait for it.
func (p *sharedPages) page(ctx context.Context, of pageOf, now time.Time, build func(context.Context) templ.Component) ([]byte, error) {
	p.mu.Lock()
	found := p.pages[of]
	if found == nil || now.Sub(found.made) >= sharedFor || now.Before(found.made) {
		found = &sharedPage{made: now}
		p.keep(of, found)
	}
	p.mu.Unlock()
	found.once.Do(func() {
		found.err = errNotBuilt // unless it is, if building it panics
		defer func() {
			if found.err != nil {
				p.forget(of, found)
			}
		}()
		found.packed, found.err = pack(ctx, build(ctx))
	})
	return found.packed, found.err
}

var errNotBuilt = errors.New("the page that is shared was not built")

// forget drops a page that is not to be shared.
func (p *sharedPages) forget(of pageOf, page *sharedPage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pages[of] == page {
		delete(p.pages, of)
	}
}

// keep puts a page among those that are shared, in place of the old ones.
func (p *sharedPages) keep(of pageOf, page *sharedPage) {
	for other, old := range p.pages {
		if page.made.Sub(old.made) >= sharedFor || len(p.pages) >= maxSharedPages {
			delete(p.pages, other)
		}
	}
	if p.pages == nil {
		p.pages = map[pageOf]*sharedPage{}
	}
	p.pages[of] = page
}

// renderShared answers with a page that all who see the same share. Clients that take no gzip get one of their own.
func (s *Site) renderShared(w http.ResponseWriter, r *http.Request, of pageOf, build func(context.Context) templ.Component) {
	if !takesGzip(r) {
		s.render(w, r, http.StatusOK, build(r.Context()))
		return
	}
	packed, err := s.shared.page(context.WithoutCancel(r.Context()), of, s.o.Now(), build)
	if err != nil {
		s.notRendered(w, r, err)
		return
	}
	sendPacked(w, http.StatusOK, packed)
}
