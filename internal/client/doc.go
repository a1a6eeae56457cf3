// Package client speaks Berth's JSON API for programs that are not browsers, the command line first of all.
//
// It knows the API as its document describes it and nothing of how Berth answers. Refusals come back as fault errors of the
// kind and code that they were sent with; a Berth that can't be reached is an *UnreachableError, one whose certificate is not
// accepted a *CertificateError.
package client
