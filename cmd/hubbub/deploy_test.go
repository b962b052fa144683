package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/knadh/koanf/parsers/yaml"
)

// files returns the paths of deploy that match.
func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("..", "..", "deploy", pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every variable that a file of deploy names is a setting.
func TestDeployNamesSettings(t *testing.T) {
	known := []string{}
	for _, name := range settingNames() {
		known = append(known, variable(name))
	}
	variables := regexp.MustCompile(`HUBBUB_[A-Z_]+`)
	for _, pattern := range []string{"*.service", "Dockerfile", "*.yaml", "kubernetes/*.yaml"} {
		for _, path := range files(t, pattern) {
			for _, name := range variables.FindAllString(contents(t, path), -1) {
				if name != "HUBBUB_" && !slices.Contains(known, name) {
					t.Errorf("%s: %s is no setting", path, name)
				}
			}
		}
	}
}

// container is what a file of deploy gives a process.
type container struct {
	name string
	args []string
	env  map[string]string
}

// containers finds every map in a document that has an environment, Compose's or
// Kubernetes'.
func containers(name string, node any) (found []container) {
	switch node := node.(type) {
	case []any:
		for i, child := range node {
			found = append(found, containers(fmt.Sprintf("%s[%d]", name, i), child)...)
		}
	case map[string]any:
		c := container{name: name, env: map[string]string{}}
		if args, ok := node["args"].([]any); ok {
			for _, a := range args {
				c.args = append(c.args, fmt.Sprint(a))
			}
		}
		if env, ok := node["environment"].(map[string]any); ok {
			for k, v := range env {
				c.env[k] = fmt.Sprint(v)
			}
		}
		if env, ok := node["env"].([]any); ok {
			for _, e := range env {
				e := e.(map[string]any)
				c.env[fmt.Sprint(e["name"])] = fmt.Sprint(e["value"])
			}
		}
		if c.env["HUBBUB_ROLES"] != "" {
			found = append(found, c)
		}
		for k, child := range node {
			found = append(found, containers(name+"."+k, child)...)
		}
	}
	return found
}

// Every process that Compose or Kubernetes starts has settings that serve takes.
func TestDeployStartsWithSettings(t *testing.T) {
	started := 0
	for _, pattern := range []string{"compose.yaml", "kubernetes/*.yaml"} {
		for _, path := range files(t, pattern) {
			for _, document := range strings.Split(contents(t, path), "\n---\n") {
				parsed, err := yaml.Parser().Unmarshal([]byte(document))
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				for _, c := range containers(filepath.Base(path), parsed) {
					started++
					t.Run(c.name, func(t *testing.T) { startsWith(t, c) })
				}
			}
		}
	}
	if started < 6 {
		t.Errorf("%d processes found", started)
	}
}

func startsWith(t *testing.T, c container) {
	for name, value := range c.env {
		if strings.HasPrefix(name, "HUBBUB_") {
			t.Setenv(name, value)
		}
	}
	var cli struct {
		Serve serveCmd `cmd:"" default:"withargs"`
	}
	parser, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(c.args); err != nil {
		t.Fatal(err)
	}
	if cli.Serve.Roles != c.env["HUBBUB_ROLES"] || cli.Serve.ClusterPeers == "" || cli.Serve.BusSecret == "" {
		t.Errorf("parsed %+v", cli.Serve)
	}
}
