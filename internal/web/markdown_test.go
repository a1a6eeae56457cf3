package web

import (
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func TestMarkdown(t *testing.T) {
	for text, want := range map[string]string{
		"# A\n## B\n##### E":                       "<h3>A</h3>\n<h4>B</h4>\n<h6>E</h6>\n",
		"**a** `b` ~~c~~":                          "<p><strong>a</strong> <code>b</code> <del>c</del></p>\n",
		"[a](https://x.example/?a=1&b=2)":          `<p><a href="https://x.example/?a=1&amp;b=2" rel="noopener noreferrer">a</a></p>` + "\n",
		"[a](mailto:a@x.example)":                  `<p><a href="mailto:a@x.example" rel="noopener noreferrer">a</a></p>` + "\n",
		"<https://x.example>":                      `<p><a href="https://x.example" rel="noopener noreferrer">https://x.example</a></p>` + "\n",
		"see https://x.example/y.":                 `<p>see <a href="https://x.example/y" rel="noopener noreferrer">https://x.example/y</a>.</p>` + "\n",
		"<a@x.example>":                            `<p><a href="mailto:a@x.example" rel="noopener noreferrer">a@x.example</a></p>` + "\n",
		"[a](javascript:alert%281%29)":             "<p>a</p>\n",
		"[a](JAVASCRIPT:alert(1))":                 "<p>a</p>\n",
		"[a](&#106;avascript:alert)":               "<p>a</p>\n",
		"[a](data:text/html,x)":                    "<p>a</p>\n",
		"[a](/logout)":                             "<p>a</p>\n",
		"[a](//x.example)":                         "<p>a</p>\n",
		"[a](https:logout)":                        "<p>a</p>\n",
		"<javascript:alert(1)>":                    "<p>javascript:alert(1)</p>\n",
		"![a *b*](https://x.example/i.png)":        `<p><a href="https://x.example/i.png" rel="noopener noreferrer">a b</a></p>` + "\n",
		"![](https://x.example/i.png)":             `<p><a href="https://x.example/i.png" rel="noopener noreferrer">Image</a></p>` + "\n",
		"![x](data:image/png;base64,AA)":           "<p>x</p>\n",
		"<script>alert(1)</script>":                "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n",
		"a <b onclick=x>b</b>":                     "<p>a &lt;b onclick=x&gt;b&lt;/b&gt;</p>\n",
		"<div>\n\n*a*":                             "<p>&lt;div&gt;\n</p>\n<p><em>a</em></p>\n",
		"| a |\n|:-:|\n| b |":                      "<table>\n<thead>\n<tr>\n<th align=\"center\">a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td align=\"center\">b</td>\n</tr>\n</tbody>\n</table>\n",
		`[a](https://x.example "t\" onclick=\"x")`: `<p><a href="https://x.example" rel="noopener noreferrer">a</a></p>` + "\n",
	} {
		if got := markdown(text); got != want {
			t.Errorf("%q becomes\n%s, want\n%s", text, got, want)
		}
	}
	long := "[a]: https://x.example/" + strings.Repeat("x", 4000) + "\n\n" + strings.Repeat("[a] ", 1000)
	if got := markdown(long); len(got) > 2*len(long) || !strings.HasPrefix(got, "<pre>[a]: ") {
		t.Errorf("a text that grows to %d bytes", len(got))
	}
}

// tags are all that a description may become.
var tags = regexp.MustCompile(`^</?(h[3-6]|p|pre|code( class="language-[^"]*")?|em|strong|del|ul|ol( start="\d+")?|li|blockquote|hr( /)?|br( /)?|table|thead|tbody|tr|t[hd]( align="(left|center|right)")?|a( href="(https?|mailto):[^"]*" rel="noopener noreferrer")?)>$`)

var anyTag = regexp.MustCompile(`<[^>]*>?`)

// TestAbuseTableOfManyCells: a short text that would become a table of millions of cells is shown as it was typed, before
// anything is made of it.
func TestAbuseTableOfManyCells(t *testing.T) {
	bomb := "|" + strings.Repeat("a|", 1024) + "\n|" + strings.Repeat("-|", 1024) + "\n" + strings.Repeat("|\n", 2047)
	bomb = bomb[:8190]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out := markdown(bomb)
	runtime.ReadMemStats(&after)
	if !strings.HasPrefix(out, "<pre>") {
		t.Errorf("%.80s", out)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Errorf("%d bytes were allocated for %d", allocated, len(bomb))
	}
	if table := markdown("|a|b|\n|-|-|\n" + strings.Repeat("|1|2|\n", 500)); !strings.Contains(table, "<table>") {
		t.Errorf("an honest table: %.80s", table)
	}
}

func FuzzMarkdown(f *testing.F) {
	f.Add("# a\n\n[x](javascript:1) ![y](https://z) <b onclick=1> <https://a.b>\n\n```js\ncode\n```\n> q\n\n1. a\n- b\n\n|a|\n|-|\n")
	f.Add("[a]: https://x\n[a] <!-- x --> <?php ?> <![CDATA[>]]> &#x3c;script>")
	f.Fuzz(func(t *testing.T, text string) {
		out := markdown(text)
		if len(out) > maxMarkdown && len(out) > 6*len(text)+11 {
			t.Fatalf("%d bytes", len(out))
		}
		for _, tag := range anyTag.FindAllString(out, -1) {
			if !tags.MatchString(tag) {
				t.Fatalf("%q has the tag %q:\n%s", text, tag, out)
			}
		}
	})
}
