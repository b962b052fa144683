package guild

import (
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/proto"
)

// voiceOf returns the voice state of the user a call names.
func (g *Guild) voiceOf(c *call) (*voiceState, error) {
	return lookUp(c, "user", g.voice, proto.ErrUnknownVoiceState)
}

func (g *Guild) getVoice(c *call) (any, error) {
	v, err := g.voiceOf(c)
	if err != nil {
		return nil, err
	}
	if v.user != c.actor.ID {
		if err := g.needIn(c, g.channels[v.channel], 0); err != nil {
			return nil, err
		}
	}
	return g.voiceObject(v), nil
}

// updateVoice lets people on and off a stage ("Modify Current User Voice State",
// "Modify User Voice State").
func (g *Guild) updateVoice(c *call) (any, error) {
	old, err := g.voiceOf(c)
	if err != nil {
		return nil, err
	}
	ch := g.channels[old.channel]
	next := *old
	channel := ch.ID
	c.id("channel_id", &channel)
	c.boolean("suppress", &next.suppress)
	raised, raise := decode[time.Time](c.form, "request_to_speak_timestamp", "TIMESTAMP_TYPE_CONVERT", "Must be an ISO8601 timestamp.")
	if err := c.err(); err != nil {
		return nil, err
	}
	if channel != ch.ID {
		return nil, &proto.APIError{Status: 400, ErrorBody: proto.ErrorBody{Code: proto.ErrUnknownVoiceState, Message: "Unknown Voice State"}}
	}
	if ch.Type != proto.ChannelStage {
		return nil, refuse(proto.ErrNotOnThisChannelType)
	}
	own := old.user == c.actor.ID
	if !own || !next.suppress && old.suppress {
		if err := g.needIn(c, ch, proto.PermMuteMembers); err != nil {
			return nil, err
		}
	}
	if own && c.has("request_to_speak_timestamp") {
		next.requested = nil
		if raise {
			if err := g.needIn(c, ch, proto.PermRequestToSpeak); err != nil {
				return nil, err
			}
			next.requested = &raised
		}
	}
	switch {
	case next.suppress && !old.suppress:
		next.requested = nil
	case !next.suppress && old.suppress && !own && !g.members[old.user].User.Bot:
		at := g.in.Wall.UTC()
		next.requested = &at
	}
	g.changeVoice(old, &next)
	return nil, nil
}

func (g *Guild) listVoice(c *call) (any, error) {
	if !c.admin {
		return nil, refuse(proto.ErrMissingPermissions)
	}
	list := []VoiceListEntry{}
	for _, user := range slices.Sorted(maps.Keys(g.voice)) {
		v, m := g.voice[user], g.members[user]
		list = append(list, VoiceListEntry{
			Guild: g.id, Channel: v.channel, Name: g.channels[v.channel].Name, User: user, Username: m.User.Username,
			Node: v.node, Worker: v.worker, Transport: v.transport,
			Mute: v.mute, Deaf: v.deaf, SelfMute: v.self.mute, SelfDeaf: v.self.deaf,
		})
	}
	return list, nil
}
