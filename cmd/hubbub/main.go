// Command hubbub is the whole platform in one binary: serve runs it, ctl talks
// to one that runs, load measures one.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
)

// version is set at build time by -ldflags.
var version = "0.1.0"

type cli struct {
	Serve   serveCmd   `cmd:"" default:"withargs" help:"Run the server (default)."`
	Ctl     ctlCmd     `cmd:"" help:"Talk to a running server on this host."`
	Load    loadCmd    `cmd:"" help:"Measure a server under load."`
	Version versionCmd `cmd:"" help:"Print the version."`

	LoadFloor loadFloorCmd `cmd:"" hidden:""`
	Succeeds  succeedsCmd  `cmd:"" hidden:"" help:"Tell a server whether this binary can go on in its place."`
	Media     mediaCmd     `cmd:"" hidden:"" help:"Run the media workers of a server that started this."`
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run() error {
	_, err := fmt.Println("hubbub " + version)
	return err
}

func main() {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("hubbub"),
		kong.Description("Open voice for communities, games and bots. Run without a command to start a server; \"hubbub serve --help\" lists its settings."),
		kong.ShortUsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		panic(err) // a mistake in the struct tags above
	}
	args, err := configured(os.Args[1:])
	if err == nil {
		var ctx *kong.Context
		ctx, err = parser.Parse(args)
		if err == nil {
			err = ctx.Run()
		}
	}
	if err != nil {
		parser.Stdout = os.Stderr // the usage goes where the complaint goes: scripts read standard output
	}
	parser.FatalIfErrorf(err)
}
