package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// configured returns args with the settings of the YAML file added in front of
// them as flags, so that environment and command line win over it. Unknown keys
// of the file, and unknown HUBBUB_ variables, are errors: a setting that is
// silently ignored is the worst kind.
func configured(args []string) ([]string, error) {
	if !servesWith(args) {
		return args, nil
	}
	if err := knownEnvironment(os.Environ()); err != nil {
		return nil, err
	}
	path := configPath(args)
	if path == "" {
		return args, nil
	}
	k := koanf.New("\x00") // no key of ours nests
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return nil, fmt.Errorf("--config %s: %w", path, err)
	}
	settings := settingNames()
	var flags []string
	for _, key := range k.Keys() {
		if !slices.Contains(settings, key) || key == "config" {
			return nil, fmt.Errorf("--config %s: unknown key %q (known: %s)", path, key, strings.Join(settings, ", "))
		}
		// A variable of the environment beats the file, so it is left out here.
		if _, set := os.LookupEnv(variable(key)); !set {
			flags = append(flags, "--"+key+"="+k.String(key))
		}
	}
	if len(args) > 0 && args[0] == "serve" {
		args = args[1:]
	}
	return append(append([]string{"serve"}, flags...), args...), nil
}

// servesWith reports whether args run the server: the default command.
func servesWith(args []string) bool {
	return len(args) == 0 || args[0] == "serve" || (strings.HasPrefix(args[0], "-") && args[0] != "--help" && args[0] != "-h")
}

func configPath(args []string) string {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, "--config="); ok {
			return v
		}
		if a == "--config" && i+1 < len(args) {
			return args[i+1]
		}
	}
	return os.Getenv("HUBBUB_CONFIG")
}

// settingNames returns the flag of every field of serveCmd.
func settingNames() []string {
	t := reflect.TypeFor[serveCmd]()
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("name")
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		names = append(names, name)
	}
	return names
}

func variable(name string) string {
	return "HUBBUB_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// foreignVariables are HUBBUB_ variables that are not settings of the server.
var foreignVariables = []string{"HUBBUB_URL", "HUBBUB_TOKEN"}

func knownEnvironment(env []string) error {
	known := slices.Clone(foreignVariables)
	for _, name := range settingNames() {
		known = append(known, variable(name))
	}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "HUBBUB_") && !strings.HasPrefix(name, "HUBBUB_TEST_") && !slices.Contains(known, name) {
			return fmt.Errorf("unknown environment variable %s (settings are named like the flags, see hubbub --help)", name)
		}
	}
	return nil
}
