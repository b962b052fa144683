package node

import "testing"

func TestPortsThatFollowOneAnotherAreARange(t *testing.T) {
	for want, ports := range map[string][]uint16{
		"":                           nil,
		"50000":                      {50000},
		"50000-50003":                {50000, 50001, 50002, 50003},
		"41000, 37211":               {41000, 37211},
		"41000-41001, 37211, 60000":  {41000, 41001, 37211, 60000},
		"65535, 1024-1025":           {65535, 1024, 1025},
		"4000, 3999, 3998-3999, 500": {4000, 3999, 3998, 3999, 500},
	} {
		if got := listPorts(ports); got != want {
			t.Errorf("%v: %q, want %q", ports, got, want)
		}
	}
}
