package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"berth/internal/config"
)

// tieValues writes "--audit-days -1" as "--audit-days=-1". The parser takes such a value for a flag and stops there; tied
// to its flag it is judged like any other, and told beside all other problems. A flag without a value is a Problem.
func tieValues(model *kong.Application, args []string) ([]string, error) {
	takesValue := map[string]*kong.Flag{}
	for _, command := range model.Leaves(false) {
		// The same name may be a switch of one command and take a value of another.
		if words := strings.Fields(command.Path()); len(words) > len(args) || !slices.Equal(words, args[:len(words)]) {
			continue
		}
		for _, flag := range command.Flags {
			if !flag.IsBool() {
				takesValue["--"+flag.Name] = flag
			}
		}
	}
	// What one command takes a value for, and another none, is left to the parser, which knows the command.
	for _, command := range model.Leaves(false) {
		for _, flag := range command.Flags {
			if flag.IsBool() {
				delete(takesValue, "--"+flag.Name)
			}
		}
	}
	var problems config.Problems
	tied := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		flag := takesValue[args[i]]
		switch {
		case args[i] == "--":
			return append(tied, args[i:]...), problems.OrNil()
		case flag == nil:
			tied = append(tied, args[i])
		case i+1 == len(args) || strings.HasPrefix(args[i+1], "--"):
			name := args[i]
			if len(flag.Envs) > 0 {
				name += " (" + flag.Envs[0] + ")"
			}
			problems = append(problems, name+": a value is missing")
		default:
			tied = append(tied, args[i]+"="+args[i+1])
			i++
		}
	}
	return tied, problems.OrNil()
}

// notUnderstood is an error of the parser with where to read on: the help of the command that it got to.
func notUnderstood(err error) error {
	command := "berth"
	var stopped *kong.ParseError
	if errors.As(err, &stopped) && stopped.Context != nil {
		for _, step := range stopped.Context.Path {
			if step.Command != nil {
				command = "berth " + step.Command.Path()
			}
		}
	}
	return fmt.Errorf("%w (see %s --help)", err, command)
}
