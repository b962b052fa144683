package node

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// contentSecurityPolicy lets the app run its own code and WebAssembly, reach
// voice servers, and nothing else.
const contentSecurityPolicy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; " +
	"img-src 'self'; media-src 'none'; connect-src 'self' ws: wss:; " +
	"object-src 'none'; frame-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// asset is one file of the app, ready to send.
type asset struct {
	contentType string
	etag        string
	cache       string
	raw, gzip   []byte // gzip is nil where it would not be smaller
}

// app serves the built web app from memory, compressed once. Any path without a
// file is the app's own route, and gets index.html.
type app struct {
	assets map[string]*asset
}

func newApp(dist fs.FS) (*app, error) {
	a := &app{assets: map[string]*asset{}}
	err := fs.WalkDir(dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		a.assets["/"+name] = newAsset(name, raw)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("web app: %w", err)
	}
	if a.assets["/index.html"] == nil {
		return nil, fmt.Errorf("web app: no index.html was embedded")
	}
	return a, nil
}

func newAsset(name string, raw []byte) *asset {
	sum := sha256.Sum256(raw)
	f := &asset{raw: raw, etag: `"` + hex.EncodeToString(sum[:8]) + `"`, cache: "no-cache"}
	// Vite puts a content hash into the name of everything below assets/.
	if strings.HasPrefix(name, "assets/") {
		f.cache = "public, max-age=31536000, immutable"
	}
	f.contentType = mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) {
	case ".js", ".mjs":
		f.contentType = "text/javascript; charset=utf-8"
	case ".wasm":
		f.contentType = "application/wasm"
	case ".webmanifest":
		f.contentType = "application/manifest+json"
	}
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return f
	}
	if _, err := z.Write(raw); err == nil && z.Close() == nil && buf.Len() < len(raw)*9/10 {
		f.gzip = buf.Bytes()
	}
	return f
}

// ServeHTTP answers GET and HEAD.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
		return
	}
	f := a.assets[path.Clean(r.URL.Path)]
	if f == nil {
		if strings.HasPrefix(r.URL.Path, "/assets/") {
			http.NotFound(w, r)
			return
		}
		f = a.assets["/index.html"]
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", f.cache)
	h.Set("ETag", f.etag)
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Vary", "Accept-Encoding")
	body := f.raw
	if f.gzip != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gzip
	}
	if r.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}
