package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"berth/internal/client"
	"berth/internal/config"
	"berth/internal/fault"
)

// The exit statuses, which docs/cli.md and --help tell.
const (
	statusOK          = 0
	statusFailed      = 1
	statusUsage       = 2
	statusNotSignedIn = 3
	statusRefused     = 4
	statusUnreachable = 5
)

// statusHelp is what --help says of them.
const statusHelp = "Exit status: 0 done, 1 failed, 2 not understood, 3 not signed in, 4 refused by Berth or Proxmox VE, 5 not reached."

// usageError is an error in what was typed. The error of the parser is one too.
type usageError struct{ error }

// Unwrap is the error itself.
func (e usageError) Unwrap() error { return e.error }

// notSignedInError says that there is nothing to sign in with.
type notSignedInError struct{ why string }

func (e notSignedInError) Error() string {
	return e.why + ": sign in with berth login, or set BERTH_URL and BERTH_TOKEN_FILE"
}

// manyErrors are the errors of several containers, which were told one by one.
type manyErrors []error

func (m manyErrors) Error() string { return errors.Join(m...).Error() }

// statusOf is the exit status of an error. Of several the highest counts.
func statusOf(err error) int {
	var many manyErrors
	if errors.As(err, &many) {
		status := statusFailed
		for _, one := range many {
			status = max(status, statusOf(one))
		}
		return status
	}
	var (
		problems    config.Problems
		usage       usageError
		nobody      notSignedInError
		unreachable *client.UnreachableError
		untrusted   *client.CertificateError
	)
	switch {
	case err == nil:
		return statusOK
	case errors.As(err, &usage), errors.Is(err, client.ErrPinWithoutTLS):
		return statusUsage
	case errors.As(err, &problems):
		return statusFailed
	case errors.As(err, &nobody):
		return statusNotSignedIn
	case errors.As(err, &unreachable), errors.As(err, &untrusted):
		return statusUnreachable
	}
	if f := fault.As(err); f != nil {
		switch f.Kind {
		case fault.Internal:
			return statusFailed
		case fault.Unauthenticated:
			return statusNotSignedIn
		case fault.Unreachable, fault.Unavailable:
			return statusUnreachable
		}
		return statusRefused
	}
	return statusFailed
}

// describe is an error for people: a refusal with all that Berth said of it.
func describe(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	f := fault.As(err)
	if f == nil || f.Error() != err.Error() { // somebody has put more words around it
		return err.Error()
	}
	parts := []string{f.Message}
	for _, field := range slices.Sorted(maps.Keys(f.Fields)) {
		parts = append(parts, f.Fields[field]+".")
	}
	if f.Hint != "" {
		parts = append(parts, f.Hint)
	}
	if f.RetryAfter > 0 {
		parts = append(parts, fmt.Sprintf("Try again in %s.", f.RetryAfter))
	}
	if f.ID != "" {
		parts = append(parts, "(error id "+f.ID+")")
	}
	return strings.Join(parts, " ")
}
