package test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"hubbub.dev/hubbub/test/harness"
)

// fleet has all tests on a fleet of nine processes instead of a server in this one:
//
//	go test ./test -args -fleet
var fleet = flag.Bool("fleet", false, "test a fleet of nine processes")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(platform{m})
}

// platform runs the tests with the fleet that they want.
type platform struct{ *testing.M }

func (p platform) Run() int {
	if !*fleet {
		return p.M.Run()
	}
	end, err := harness.UseFleet()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer end()
	return p.M.Run()
}
