//go:build !unix

package store

// lockFolder does nothing where there are no such locks: the schema is changed by one program at a time there if the operator
// starts one at a time.
func lockFolder(string) (unlock func() error, err error) { return func() error { return nil }, nil }
