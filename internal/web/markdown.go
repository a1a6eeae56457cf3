package web

import (
	"bytes"
	"errors"
	"html"
	"net/url"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"
)

// maxMarkdown bounds what becomes of one text: a short one can name one long link thousands of times.
const maxMarkdown = 128 << 10

// maxCells bounds the tables of one text: every row gets as many cells as the head has columns, so that a few thousand
// short lines below a wide head would become millions.
const maxCells = 10_000

var errLongMarkdown = errors.New("the text grows too long")

// markdown makes HTML of what somebody has written about a container. It holds nothing that the text's author chose but
// text and links to http, https and mail addresses: HTML in it is shown as it was typed, and images, which the content
// security policy would not load, are links. Headings begin at the third level, below those of the page.
func markdown(text string) string {
	var out bytes.Buffer
	if cells(text) > maxCells || markdownRenderer.Convert([]byte(text), &limited{&out, maxMarkdown}) != nil {
		return "<pre>" + html.EscapeString(text) + "</pre>"
	}
	return out.String()
}

// cells is how many cells the tables of a text can have at most.
func cells(text string) int {
	widest, lines := 0, 0
	for line := range strings.Lines(text) {
		widest = max(widest, strings.Count(line, "|")+1)
		lines++
	}
	if widest == 1 {
		return 0 // a table of one column has a bar too
	}
	return widest * lines
}

// limited takes so many bytes and no more.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errLongMarkdown
	}
	return l.to.Write(p)
}

var markdownRenderer = goldmark.New(
	goldmark.WithExtensions(
		extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)), // the policy allows no style
		extension.Strikethrough,
		extension.NewLinkify(extension.WithLinkifyAllowedProtocols([]string{"http:", "https:", "mailto:"})),
	),
	goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(safeNodes{}, 100))),
)

// safeNodes renders what goldmark's own renderer would take from the text as it is.
type safeNodes struct{}

// RegisterFuncs implements renderer.NodeRenderer.
func (safeNodes) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindHTMLBlock, renderHTMLBlock)
	r.Register(ast.KindRawHTML, renderRawHTML)
	r.Register(ast.KindLink, renderLink)
	r.Register(ast.KindAutoLink, renderAutoLink)
	r.Register(ast.KindImage, renderImage)
	r.Register(ast.KindHeading, renderHeading)
}

func renderHTMLBlock(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	block := n.(*ast.HTMLBlock)
	text := string(block.Lines().Value(source))
	if block.HasClosure() {
		text += string(block.ClosureLine.Value(source))
	}
	_, err := w.WriteString("<p>" + html.EscapeString(text) + "</p>\n")
	return ast.WalkSkipChildren, err
}

func renderRawHTML(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkSkipChildren, nil
	}
	_, err := w.WriteString(html.EscapeString(string(n.(*ast.RawHTML).Segments.Value(source))))
	return ast.WalkSkipChildren, err
}

// openLink is the start of a link to a destination; "" for one that is not linked to.
func openLink(destination string) string {
	u, err := url.Parse(destination)
	if err != nil || !slices.Contains([]string{"http", "https", "mailto"}, strings.ToLower(u.Scheme)) || u.Scheme != "mailto" && u.Host == "" {
		return ""
	}
	return `<a href="` + html.EscapeString(u.String()) + `" rel="noopener noreferrer">`
}

func renderLink(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	open := openLink(string(n.(*ast.Link).Destination))
	if open == "" {
		return ast.WalkContinue, nil
	}
	if !entering {
		open = "</a>"
	}
	_, err := w.WriteString(open)
	return ast.WalkContinue, err
}

func renderAutoLink(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	link := n.(*ast.AutoLink)
	destination, label := string(link.URL(source)), html.EscapeString(string(link.Label(source)))
	if link.AutoLinkType == ast.AutoLinkEmail && !strings.HasPrefix(strings.ToLower(destination), "mailto:") {
		destination = "mailto:" + destination
	}
	if open := openLink(destination); open != "" {
		label = open + label + "</a>"
	}
	_, err := w.WriteString(label)
	return ast.WalkContinue, err
}

// renderImage links to the image. Its children are the text that stands for it.
func renderImage(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	image := n.(*ast.Image)
	var alt bytes.Buffer
	_ = ast.Walk(image, func(child ast.Node, entering bool) (ast.WalkStatus, error) { // it returns no error but ours
		if text, ok := child.(*ast.Text); ok && entering {
			alt.Write(text.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	label := html.EscapeString(alt.String())
	if label == "" {
		label = "Image"
	}
	if open := openLink(string(image.Destination)); open != "" {
		label = open + label + "</a>"
	}
	_, err := w.WriteString(label)
	return ast.WalkSkipChildren, err
}

func renderHeading(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	level := string(rune('0' + min(n.(*ast.Heading).Level+2, 6)))
	tag := "<h" + level + ">"
	if !entering {
		tag = "</h" + level + ">\n"
	}
	_, err := w.WriteString(tag)
	return ast.WalkContinue, err
}
