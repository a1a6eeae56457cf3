// Package web owns HTTP: the table of routes, the guard in front of them, cookies, security headers, the one place where
// errors become answers, and the pages (one file per page; package view renders them).
//
// Every route says itself whether it is public or authenticated, and the two kinds of handler differ in type: an
// authenticated one receives its caller as a parameter, and only the guard makes callers. Openness is never a prefix's.
//
// The package decides nothing about signing in, sessions or containers; it decodes what a client sent, runs the
// action that a feature declares, and shows the outcome. The JSON routes are package api's.
package web
