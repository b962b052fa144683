package node

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func testApp(t *testing.T) *app {
	t.Helper()
	a, err := newApp(fstest.MapFS{
		"index.html":        {Data: []byte("<title>Hubbub</title>" + strings.Repeat(" ", 1000))},
		"assets/app-1.js":   {Data: []byte(strings.Repeat("let x = 1;", 100))},
		"assets/noise.wasm": {Data: []byte{0, 'a', 's', 'm'}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func fetch(a http.Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Result()
}

func TestAppRoutes(t *testing.T) {
	a := testApp(t)
	for path, want := range map[string]struct {
		status            int
		contentType, body string
	}{
		"/":                   {200, "text/html", "<title>"},
		"/invite/abc":         {200, "text/html", "<title>"},
		"/channels/1/2":       {200, "text/html", "<title>"},
		"/assets/app-1.js":    {200, "text/javascript", "let x"},
		"/assets/noise.wasm":  {200, "application/wasm", "\x00asm"},
		"/assets/old-hash.js": {404, "text/plain", "404"},
		"/../../etc/passwd":   {200, "text/html", "<title>"},
	} {
		res := fetch(a, "GET", path)
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != want.status || !strings.HasPrefix(res.Header.Get("Content-Type"), want.contentType) || !strings.HasPrefix(string(body), want.body) {
			t.Errorf("%s: %d %s %.20q", path, res.StatusCode, res.Header.Get("Content-Type"), body)
		}
	}
	if res := fetch(a, "POST", "/"); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", res.StatusCode)
	}
}

func TestAppIsCompressedCachedAndConfined(t *testing.T) {
	a := testApp(t)
	res := fetch(a, "GET", "/assets/app-1.js", "Accept-Encoding", "br, gzip")
	if res.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal("not compressed")
	}
	z, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(z); err != nil || !strings.HasPrefix(string(body), "let x") {
		t.Errorf("%.20q, %v", body, err)
	}
	if !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
		t.Error("a hashed file may be kept for good")
	}
	page := fetch(a, "GET", "/")
	if page.Header.Get("Cache-Control") != "no-cache" || !strings.Contains(page.Header.Get("Content-Security-Policy"), "default-src 'self'") {
		t.Errorf("headers of the page: %v", page.Header)
	}
	if again := fetch(a, "GET", "/", "If-None-Match", page.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("unchanged page: %d", again.StatusCode)
	}
}
