package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "hubbub.dev/hubbub/"

// coreMay lists, for each core package, the other core packages it may import.
// clock and rtp are open to all of them.
var coreMay = map[string][]string{
	"browser":    {"ledger", "warm"},
	"native":     {"ledger", "warm"},
	"relay":      {"native", "sfu"},
	"sfu":        {"bwe", "ledger"},
	"session":    {"guild", "token"},
	"signalling": {"browser", "guild", "native", "session", "sfu", "token"},
	"guild":      {"ring", "token"},
	"fleet":      {"ring"},
}

// bannedInCore are packages that read clocks, do I/O, block or log.
var bannedInCore = []string{"os", "io/fs", "sync", "sync/atomic", "context", "log", "log/slog", "net", "net/http", "crypto/rand", "math/rand", "math/rand/v2", "runtime", "syscall", "testing"}

// bannedInSim are packages that would make a run depend on more than its seed.
var bannedInSim = []string{"os", "sync", "sync/atomic", "context", "log/slog", "net", "net/http", "crypto/rand", "runtime", "syscall"}

// bannedNames say nothing of what a package owns.
var bannedNames = []string{"utils", "util", "common", "helpers", "helper", "types", "misc"}

// sourceFile is one Go file of the product, not of its tests.
type sourceFile struct {
	path string // from the module root, with slashes
	ast  *ast.File
	fset *token.FileSet
}

func sources(t *testing.T, root string) []sourceFile {
	t.Helper()
	var out []sourceFile
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".git")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		out = append(out, sourceFile{filepath.ToSlash(rel), f, fset})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// violations returns every breach of the layer rules in one file.
func violations(f sourceFile) []string {
	var out []string
	say := func(format string, args ...any) {
		out = append(out, f.path+": "+fmt.Sprintf(format, args...))
	}
	dir := filepath.ToSlash(filepath.Dir(f.path))
	if slices.Contains(bannedNames, f.ast.Name.Name) {
		say("a package named %s says nothing of what it owns", f.ast.Name.Name)
	}
	for _, spec := range f.ast.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		if why := forbidden(dir, path); why != "" {
			say("imports %s: %s", path, why)
		}
	}
	switch {
	case within(dir, "internal/core"), within(dir, "sim"):
		for _, why := range impure(f.ast) {
			say("%s", why)
		}
	case within(dir, "internal/edge"):
		if hasGo(f.ast) {
			say("starts a goroutine: internal/serve alone does")
		}
	case within(dir, "internal/serve") && dir != "internal/serve/run":
		if hasGo(f.ast) {
			say("starts a goroutine by itself: use run.Group.Go")
		}
	}
	return out
}

// forbidden says why a package in dir may not import path, or "".
func forbidden(dir, path string) string {
	own, local := strings.CutPrefix(path, module)
	switch {
	case dir == "proto":
		if local || strings.Contains(strings.Split(path, "/")[0], ".") {
			return "proto imports the standard library only"
		}
	case within(dir, "client"), within(dir, "examples"):
		if strings.HasPrefix(own, "internal/") && local {
			return "the SDK stands on public packages only"
		}
	case within(dir, "internal/core"):
		return forbiddenInCore(strings.Split(dir, "/")[2], path, own, local)
	case within(dir, "internal/edge"):
		mine := "internal/edge/" + strings.Split(dir, "/")[2]
		if local && own != "proto" && own != "internal/core/clock" && !within(own, mine) {
			return "edge imports proto, core/clock and third parties"
		}
	case within(dir, "internal/serve"):
		mine := "internal/serve/" + strings.Split(dir, "/")[2]
		allowed := own == "internal/serve/run" || mine == "internal/serve/node" || within(own, mine) ||
			(mine == "internal/serve/voice" && own == "internal/serve/media")
		if local && within(own, "internal/serve") && !allowed {
			return "no serve package imports another but node, and voice of media"
		}
	case within(dir, "sim"):
		if slices.Contains(bannedInSim, path) || local && own != "proto" && !within(own, "internal/core") || !local && strings.Contains(strings.Split(path, "/")[0], ".") {
			return "sim drives core with no I/O at all"
		}
	}
	return ""
}

func forbiddenInCore(pkg, path, own string, local bool) string {
	if slices.Contains(bannedInCore, path) {
		return "core does no I/O, reads no clock and waits for nobody"
	}
	if !local {
		return ""
	}
	if own == "proto" || own == "internal/core/clock" || own == "internal/core/rtp" || own == "internal/core/"+pkg {
		return ""
	}
	if name, ok := strings.CutPrefix(own, "internal/core/"); ok && slices.Contains(coreMay[pkg], name) {
		return ""
	}
	return "core/" + pkg + " may not know it"
}

// impure finds go statements, channels operations and clock reads.
func impure(f *ast.File) []string {
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, "core starts a goroutine")
		case *ast.SelectStmt, *ast.SendStmt:
			out = append(out, "core waits on a channel")
		case *ast.SelectorExpr:
			pkg, ok := n.X.(*ast.Ident)
			if ok && pkg.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "AfterFunc", "Tick"}, n.Sel.Name) {
				out = append(out, "core calls time."+n.Sel.Name)
			}
		}
		return true
	})
	return out
}

func hasGo(f *ast.File) bool {
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		if _, ok := n.(*ast.GoStmt); ok {
			found = true
		}
		return !found
	})
	return found
}

func within(dir, parent string) bool { return dir == parent || strings.HasPrefix(dir, parent+"/") }

func TestLayers(t *testing.T) {
	files := sources(t, "..")
	if len(files) < 20 {
		t.Fatalf("only %d files found: the walk is broken", len(files))
	}
	for _, f := range files {
		for _, v := range violations(f) {
			t.Error(v)
		}
	}
}

// TestLayersCatch plants a breach of every rule, so that the gate is known to
// shut.
func TestLayersCatch(t *testing.T) {
	plant := map[string]string{
		"proto/x.go":                   `package proto; import _ "golang.org/x/net/ipv4"`,
		"internal/core/sfu/x.go":       `package sfu; import _ "net"`,
		"internal/core/rtp/x.go":       `package rtp; import _ "hubbub.dev/hubbub/internal/core/sfu"`,
		"internal/core/ring/x.go":      `package ring; func f() { go f() }`,
		"internal/core/bwe/x.go":       `package bwe; import "time"; var _ = time.Now()`,
		"internal/core/guild/x.go":     `package guild; func f(c chan int) { c <- 1 }`,
		"internal/edge/ws/x.go":        `package ws; import _ "hubbub.dev/hubbub/internal/edge/bus"`,
		"internal/edge/udp/x.go":       `package udp; func f() { go f() }`,
		"internal/serve/rest/x.go":     `package rest; import _ "hubbub.dev/hubbub/internal/serve/gateway"`,
		"internal/serve/gateway/x.go":  `package gateway; func f() { go f() }`,
		"sim/x.go":                     `package sim; import _ "hubbub.dev/hubbub/internal/serve/run"`,
		"sim/y.go":                     `package sim; import "time"; var _ = time.Now()`,
		"client/x.go":                  `package client; import _ "hubbub.dev/hubbub/internal/core/rtp"`,
		"internal/edge/store/other.go": `package helpers`,
	}
	for path, src := range plant {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(violations(sourceFile{path, f, fset})) == 0 {
			t.Errorf("%s: %s was let through", path, src)
		}
	}
}
