// Package web owns the browser app: its TypeScript source, and dist, the built files that the binary carries.
// It never serves them; routes and headers belong to the REST role.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var files embed.FS

// Dist returns the built app, rooted so that "index.html" is its entry page.
func Dist() fs.FS {
	dist, err := fs.Sub(files, "dist")
	if err != nil {
		panic(err) // only an invalid path constant can fail
	}
	return dist
}
