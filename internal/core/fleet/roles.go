package fleet

import (
	"fmt"
	"strings"
)

// Roles is a set of roles.
type Roles uint8

// The roles that a node can have.
const (
	Gateway Roles = 1 << iota // clients' event sessions
	REST                      // the HTTP API and the app
	Guilds                    // owns guilds
	Voice                     // signalling and media

	All = Gateway | REST | Guilds | Voice
	// Stored are the roles that need the database.
	Stored = Gateway | REST | Guilds
)

var roleNames = []struct {
	role Roles
	name string
}{{Gateway, "gateway"}, {REST, "rest"}, {Guilds, "guilds"}, {Voice, "voice"}}

// Has reports whether r has one of the roles of others.
func (r Roles) Has(others Roles) bool { return r&others != 0 }

// String returns the names of the roles, separated by commas.
func (r Roles) String() string {
	var names []string
	for _, n := range roleNames {
		if r.Has(n.role) {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// ParseRoles reads names separated by commas; an empty list is All. It fails on a
// name that is no role.
func ParseRoles(list string) (Roles, error) {
	if strings.TrimSpace(list) == "" {
		return All, nil
	}
	var r Roles
	for name := range strings.SplitSeq(list, ",") {
		role, ok := roleOf(strings.TrimSpace(name))
		if !ok {
			return 0, fmt.Errorf("%q is no role: %s", name, All)
		}
		r |= role
	}
	return r, nil
}

func roleOf(name string) (Roles, bool) {
	for _, n := range roleNames {
		if n.name == name {
			return n.role, true
		}
	}
	return 0, false
}
