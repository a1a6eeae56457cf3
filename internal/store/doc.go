// Package store keeps what Berth must remember, in one SQLite file in the data folder or in a PostgreSQL database, behind the
// small interfaces that the features declare (session.Store, auth.Store).
//
// It owns the schema (migrations), the queries (queries, from which sqlc generates package db) and the way the database
// is opened. It makes no decision about what it stores: what has run out or who may see what is the features' business.
// Secrets arrive sealed.
package store
