// Package db holds the queries of package store as functions. But for this comment sqlc makes it, of the files in
// internal/store/queries and internal/store/migrations: change those, and generate it anew.
//
// It decides nothing and opens nothing; only package store uses it.
package db
