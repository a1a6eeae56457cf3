// Package static owns what a browser loads besides pages: style sheet, scripts, fonts and the icon, embedded in the
// binary under names that hold a hash of their content, compressed ahead of time.
//
// It does not own their sources: those are in web/ at the root of the repository, and "npm ci && npm run build" there
// writes the dist folder of this package.
package static
