package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is the detail of berth completion --help.
func (completionCommand) Help() string {
	return "bash: put \"source <(berth completion bash)\" into ~/.bashrc. zsh: write it into a file _berth in a folder of $fpath. " +
		"fish: write it into ~/.config/fish/completions/berth.fish."
}

// Run prints the completion of what this very program understands.
func (c *completionCommand) Run(stdout io.Writer, model *kong.Kong) error {
	write := map[string]func([]completed) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell]
	_, err := io.WriteString(stdout, write(completions(model.Model.Node)))
	return err
}

// completed is what can follow a command: the commands below it, or its flags.
type completed struct {
	path  string // "hosts add"; empty for the program itself
	below []choice
	flags []choice
}

// choice is one word that can be typed.
type choice struct{ word, help string }

// completions are all commands, each before those below it.
func completions(node *kong.Node) []completed {
	var all []completed
	var walk func(n *kong.Node, path string)
	walk = func(n *kong.Node, path string) {
		c := completed{path: path}
		for _, child := range n.Children {
			if !child.Hidden && child.Type == kong.CommandNode {
				c.below = append(c.below, choice{child.Name, firstSentence(child.Help)})
			}
		}
		for _, arg := range n.Positional {
			for _, word := range arg.EnumSlice() {
				if arg.Enum != "" {
					c.below = append(c.below, choice{word, arg.Help})
				}
			}
		}
		for _, flag := range n.Flags {
			if flag.Hidden {
				continue
			}
			c.flags = append(c.flags, choice{"--" + flag.Name, firstSentence(flag.Help)})
			if flag.Tag.Negatable != "" {
				c.flags = append(c.flags, choice{"--no-" + flag.Name, "Do not: " + firstSentence(flag.Help)})
			}
		}
		if path != "" {
			c.flags = append(c.flags, choice{"--help", "Tell what it does."})
		}
		all = append(all, c)
		for _, child := range n.Children {
			if !child.Hidden && child.Type == kong.CommandNode {
				walk(child, strings.TrimSpace(path+" "+child.Name))
			}
		}
	}
	walk(node, "")
	return all
}

func firstSentence(help string) string {
	first, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(first, ".")
}

func (c completed) words() string {
	words := make([]string, 0, len(c.below)+len(c.flags))
	for _, one := range append(c.below[:len(c.below):len(c.below)], c.flags...) {
		words = append(words, one.word)
	}
	return strings.Join(words, " ")
}

// paths is a pattern of the shell's case that finds out, word by word, which command was typed.
func paths(all []completed) string {
	var patterns []string
	for _, c := range all {
		if c.path != "" {
			patterns = append(patterns, `"`+c.path+`"`)
		}
	}
	return strings.Join(patterns, "|")
}

func bashCompletion(all []completed) string {
	var b strings.Builder
	b.WriteString(`# bash completion of berth
_berth() {
  local current=${COMP_WORDS[COMP_CWORD]} path="" next word
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    next="${path:+$path }$word"
    case "$next" in
`)
	fmt.Fprintf(&b, "      %s) path=$next ;;\n    esac\n  done\n  case \"$path\" in\n", paths(all))
	for _, c := range all {
		fmt.Fprintf(&b, "    %q) COMPREPLY=($(compgen -W %q -- \"$current\")) ;;\n", c.path, c.words())
	}
	b.WriteString("  esac\n}\ncomplete -o bashdefault -o default -F _berth berth\n")
	return b.String()
}

// quoted is a text in single quotes of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func zshCompletion(all []completed) string {
	var b strings.Builder
	b.WriteString(`#compdef berth
_berth() {
  local path_="" next word
  local -a choices
  for word in "${(@)words[2,CURRENT-1]}"; do
    next="${path_:+$path_ }$word"
    case "$next" in
`)
	fmt.Fprintf(&b, "      %s) path_=$next ;;\n    esac\n  done\n  case \"$path_\" in\n", paths(all))
	for _, c := range all {
		fmt.Fprintf(&b, "    %q) choices=(", c.path)
		for _, one := range append(c.below[:len(c.below):len(c.below)], c.flags...) {
			b.WriteString("\n      " + quoted(one.word+":"+strings.ReplaceAll(one.help, ":", `\:`)))
		}
		b.WriteString(") ;;\n")
	}
	b.WriteString(`  esac
  _describe berth choices || _files
}
if [ "$funcstack[1]" = "_berth" ]; then
  _berth "$@"
else
  compdef _berth berth
fi
`)
	return b.String()
}

func fishCompletion(all []completed) string {
	var b strings.Builder
	b.WriteString(`# fish completion of berth
function __berth_at
    set -l path
    for word in (commandline -opc)[2..]
        switch (string join " " $path $word)
`)
	fmt.Fprintf(&b, "            case %s\n                set -a path $word\n        end\n    end\n    test \"$path\" = \"$argv\"\nend\n",
		strings.ReplaceAll(paths(all), "|", " "))
	for _, c := range all {
		condition := quoted("__berth_at " + c.path)
		for _, one := range c.below {
			fmt.Fprintf(&b, "complete -c berth -f -n %s -a %s -d %s\n", condition, quoted(one.word), quoted(one.help))
		}
		for _, one := range c.flags {
			fmt.Fprintf(&b, "complete -c berth -n %s -l %s -d %s\n", condition, quoted(strings.TrimPrefix(one.word, "--")), quoted(one.help))
		}
	}
	return b.String()
}
