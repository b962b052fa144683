package proto

import (
	"fmt"
	"strconv"
)

// Permissions is a set of permission bits (Topics, "Permissions"). In JSON it
// is a decimal string; a bare number is accepted.
type Permissions uint64

// The permissions that Hubbub enforces or carries.
const (
	PermCreateInvite       Permissions = 1 << 0
	PermKickMembers        Permissions = 1 << 1
	PermBanMembers         Permissions = 1 << 2
	PermAdministrator      Permissions = 1 << 3
	PermManageChannels     Permissions = 1 << 4
	PermManageGuild        Permissions = 1 << 5
	PermAddReactions       Permissions = 1 << 6
	PermViewAuditLog       Permissions = 1 << 7
	PermPrioritySpeaker    Permissions = 1 << 8
	PermStream             Permissions = 1 << 9
	PermViewChannel        Permissions = 1 << 10
	PermSendMessages       Permissions = 1 << 11
	PermManageMessages     Permissions = 1 << 13
	PermEmbedLinks         Permissions = 1 << 14
	PermAttachFiles        Permissions = 1 << 15
	PermReadMessageHistory Permissions = 1 << 16
	PermMentionEveryone    Permissions = 1 << 17
	PermConnect            Permissions = 1 << 20
	PermSpeak              Permissions = 1 << 21
	PermMuteMembers        Permissions = 1 << 22
	PermDeafenMembers      Permissions = 1 << 23
	PermMoveMembers        Permissions = 1 << 24
	PermUseVAD             Permissions = 1 << 25
	PermChangeNickname     Permissions = 1 << 26
	PermManageNicknames    Permissions = 1 << 27
	PermManageRoles        Permissions = 1 << 28
	PermUseCommands        Permissions = 1 << 31
	PermRequestToSpeak     Permissions = 1 << 32

	PermAll Permissions = 1<<53 - 1

	// PermDefault is what @everyone starts with in a new guild.
	PermDefault = PermCreateInvite | PermAddReactions | PermStream | PermViewChannel | PermSendMessages |
		PermEmbedLinks | PermAttachFiles | PermReadMessageHistory | PermConnect | PermSpeak | PermUseVAD |
		PermChangeNickname | PermUseCommands | PermRequestToSpeak
)

// Has reports whether every bit of q is in p.
func (p Permissions) Has(q Permissions) bool { return p&q == q }

// MarshalJSON encodes p as a decimal string.
func (p Permissions) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatUint(uint64(p), 10) + `"`), nil
}

// UnmarshalJSON decodes a decimal string or a number.
func (p *Permissions) UnmarshalJSON(b []byte) error {
	if len(b) >= 2 && b[0] == '"' {
		b = b[1 : len(b)-1]
	}
	if string(b) == "null" || len(b) == 0 {
		*p = 0
		return nil
	}
	v, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf("permissions %q: not a 64-bit decimal", b)
	}
	*p = Permissions(v)
	return nil
}
