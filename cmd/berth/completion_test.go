package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/testneed"
)

// offered is what a shell is to offer after a line that is typed so far.
var offered = map[string]string{
	"": "ls", "hos": "hosts", "hosts ": "repin", "ls --": "--search", "start web --no": "--no-wait", "completion ": "fish", "serve --token": "--token-idle",
}

// Each shell offers, in the shell itself, the commands and flags that there are.
func TestCompletionOfBash(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	script := u.must("", "completion", "bash").out
	for typed, want := range offered {
		words := strings.Split("berth "+typed, " ")
		line := script + "\nCOMP_WORDS=(" + strings.Join(words[:len(words)-1], " ") + " '" + words[len(words)-1] + "')\nCOMP_CWORD=" + strconv.Itoa(len(words)-1) + "\n_berth\necho \"${COMPREPLY[@]}\"\n"
		out, err := exec.Command("bash", "-c", line).CombinedOutput()
		if err != nil || !slices.Contains(strings.Fields(string(out)), want) {
			t.Errorf("after %q: %s, %v; want %s among them", typed, out, err, want)
		}
	}
	u.fails(statusUsage, "must be one of", "", "completion", "tcsh")
}

func TestCompletionOfFish(t *testing.T) {
	t.Parallel()
	fish := testneed.Command(t, "fish")
	file := writeFile(t, newUser(t).must("", "completion", "fish").out)
	for typed, want := range offered {
		cmd := exec.CommandContext(t.Context(), fish, "--no-config", "--command", "source $argv[1]; complete --do-complete $argv[2]", file, "berth "+typed)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		found := slices.ContainsFunc(strings.Split(string(out), "\n"), func(line string) bool { return strings.HasPrefix(line, want+"\t") })
		if err != nil || !found {
			t.Errorf("after %q: %s, %v; want %s among them", typed, out, err, want)
		}
	}
}

// zshTypes starts an interactive zsh at a terminal of its own, types a line and the tab key, and reads until a word comes.
const zshTypes = `
zmodload zsh/zpty
zpty -b shell zsh -f -i
zpty -w shell "PS1=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; print READ''Y"
zpty -r shell said '*READY*'
zpty -w -n shell "berth $2"$'\t\t'
zpty -r shell said "*$3*"
print -r -- "$said"
zpty -d shell
`

func TestCompletionOfZsh(t *testing.T) {
	t.Parallel()
	zsh := testneed.Command(t, "zsh")
	functions := t.TempDir()
	if err := os.WriteFile(filepath.Join(functions, "_berth"), []byte(newUser(t).must("", "completion", "zsh").out), 0o600); err != nil {
		t.Fatal(err)
	}
	for typed, want := range offered {
		// What is typed comes back too, so it is the rest that counts.
		words := strings.Split(typed, " ")
		rest := strings.TrimPrefix(want, words[len(words)-1])
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, zsh, "-f", "-c", zshTypes, "zsh", functions, typed, rest)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "TERM=dumb", "COLUMNS=200", "LINES=100")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), rest) {
			t.Errorf("after %q: %q, %v; want %s", typed, out, err, want)
		}
	}
}
