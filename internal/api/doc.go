// Package api owns the JSON API: its routes, which run the same actions as the pages do, and the OpenAPI document that is
// made from those routes.
//
// How routes are guarded and how errors become problems is package web's; what the actions do is the features'.
package api
