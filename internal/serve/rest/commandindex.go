package rest

import (
	"errors"
	"strconv"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/internal/edge/store"
	"hubbub.dev/hubbub/proto"
)

// commandIndex is every command that its reader may use in a guild, and whose
// they are ("Get Guild Application Command Index").
type commandIndex struct {
	Applications []indexedApplication       `json:"applications"`
	Commands     []proto.ApplicationCommand `json:"application_commands"`
	Version      proto.Snowflake            `json:"version"` // of the newest command
}

type indexedApplication struct {
	ID          proto.Snowflake `json:"id"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Icon        *string         `json:"icon"`
	Bot         *proto.User     `json:"bot"`
}

// memberPage is the most members that a guild lists at once.
const memberPage = 1000

func (s *Service) indexRoute() route {
	// The members of the guild are read for it, so it costs more than most.
	return route{pattern: "GET /guilds/{guild}/application-command-index", auth: person, quota: quota{5, 5 * time.Second}, handle: s.commandIndex}
}

// commandIndex answers with the commands of the guild's bots, their global ones
// included. Whether a channel takes them is seen when one is used there.
func (s *Service) commandIndex(r *request) (reply, error) {
	g := r.ids["guild"]
	own, err := s.partialGuild(r, g)
	if err != nil {
		return reply{}, err
	}
	index := commandIndex{Applications: []indexedApplication{}, Commands: []proto.ApplicationCommand{}}
	if !own.Permissions.Has(proto.PermUseCommands) {
		return ok(index)
	}
	bots, err := s.botsOf(r, g)
	if err != nil {
		return reply{}, err
	}
	for _, id := range bots {
		if err := s.indexBot(r, g, id, own.Permissions, &index); err != nil {
			return reply{}, err
		}
	}
	return ok(index)
}

// indexBot adds a bot's commands to an index, if any are for somebody with these
// permissions.
func (s *Service) indexBot(r *request, g, id proto.Snowflake, may proto.Permissions, index *commandIndex) error {
	app, err := s.store.ApplicationByBot(r.ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	before := len(index.Commands)
	for _, scope := range []proto.Snowflake{g, 0} {
		commands, err := s.store.Commands(r.ctx, app.ID, scope)
		if err != nil {
			return err
		}
		for _, c := range commands {
			if mayUse(c, may) {
				index.Commands = append(index.Commands, c)
				index.Version = max(index.Version, c.Version)
			}
		}
	}
	if len(index.Commands) > before {
		index.Applications = append(index.Applications, indexedApplication{app.ID, app.Name, app.Description, app.Icon, app.Bot})
	}
	return nil
}

// botsOf returns the bots among a guild's members.
func (s *Service) botsOf(r *request, g proto.Snowflake) ([]proto.Snowflake, error) {
	var bots []proto.Snowflake
	for after := proto.Snowflake(0); ; {
		var page []proto.Member
		params := map[string]string{"limit": strconv.Itoa(memberPage), "after": after.String()}
		if err := s.askFor(r.ctx, r.actor(), g, guild.OpMemberList, params, nil, &page); err != nil {
			return nil, err
		}
		for _, m := range page {
			if m.User.Bot {
				bots = append(bots, m.User.ID)
			}
			after = m.User.ID
		}
		if len(page) < memberPage {
			return bots, nil
		}
	}
}
