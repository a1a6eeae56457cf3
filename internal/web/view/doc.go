// Package view owns what a person sees: the pages as templ components, the data that each of them takes, and how
// figures are written for people.
//
// It does not own routes, requests or where the data comes from (package web), nor the style sheet and the scripts
// (package static). A component writes HTML and nothing else; every path in it goes through Shell.Link.
package view

//go:generate go tool -modfile=../../../tools/go.mod templ generate
