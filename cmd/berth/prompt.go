package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// prompt asks whoever is at the terminal; what is typed comes from standard input, the questions go to standard error. Without
// a terminal the answers are the lines of standard input.
type prompt struct {
	in  *bufio.Reader
	out io.Writer
}

func newPrompt() *prompt {
	return &prompt{in: bufio.NewReaderSize(os.Stdin, 8<<10), out: os.Stderr}
}

var errNoAnswer = errors.New("standard input has ended before all was answered")

// line asks for a line; an empty answer means the given one.
func (p *prompt) line(ctx context.Context, question, otherwise string) (string, error) {
	if otherwise != "" {
		question += " [" + otherwise + "]"
	}
	fmt.Fprint(p.out, question+": ")
	text, err := p.read(ctx, p.readLine)
	if text = strings.TrimSpace(text); text == "" {
		text = otherwise
	}
	return text, err
}

// secret asks for a line that is not shown.
func (p *prompt) secret(ctx context.Context, question string) (string, error) {
	fmt.Fprint(p.out, question+": ")
	terminal := int(os.Stdin.Fd())
	if !isTerminal(os.Stdin) {
		return p.read(ctx, p.readLine)
	}
	before, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	text, err := p.read(ctx, func() (string, error) {
		text, err := term.ReadPassword(terminal)
		return string(text), err
	})
	fmt.Fprintln(p.out)
	if ctx.Err() != nil {
		// Whoever gives up must see again what they type.
		return "", errors.Join(ctx.Err(), term.Restore(terminal, before))
	}
	return text, err
}

// confirm asks a question that only yes answers.
func (p *prompt) confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprint(p.out, question+" [y/N] ")
	text, err := p.read(ctx, p.readLine)
	if err != nil {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

func (p *prompt) readLine() (string, error) {
	text, err := p.in.ReadString('\n')
	if errors.Is(err, io.EOF) {
		if err = nil; text == "" {
			err = errNoAnswer
		}
	}
	return strings.TrimRight(text, "\r\n"), err
}

// read waits for an answer, or for the end of the program: a read itself can't be given up.
func (p *prompt) read(ctx context.Context, f func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	came := make(chan answer, 1)
	go func() {
		text, err := f()
		came <- answer{text, err}
	}()
	select {
	case a := <-came:
		if !isTerminal(os.Stdin) {
			fmt.Fprintln(p.out) // nobody has pressed the key that would end the line of the question
		}
		return a.text, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// isTerminal tells whether there may be somebody at the other end of a file.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
