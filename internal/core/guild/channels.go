package guild

import (
	"cmp"
	"encoding/json"
	"slices"

	"hubbub.dev/hubbub/proto"
)

const (
	maxChannels   = 500
	maxInCategory = 50
	maxOverwrites = 100
)

// sortedChannels returns the channels in the order clients show them.
func (g *Guild) sortedChannels() []*proto.Channel {
	list := make([]*proto.Channel, 0, len(g.channels))
	for _, ch := range g.channels {
		list = append(list, ch)
	}
	slices.SortFunc(list, func(a, b *proto.Channel) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func (g *Guild) listChannels(c *call) (any, error) {
	list := []*proto.Channel{}
	for _, ch := range g.sortedChannels() {
		if g.inChannel(c, ch).Has(proto.PermViewChannel) {
			list = append(list, ch)
		}
	}
	return list, nil
}

func (g *Guild) getChannel(c *call) (any, error) {
	ch, err := g.channelOf(c)
	if err != nil {
		return nil, err
	}
	return ch, g.needIn(c, ch, 0)
}

func (g *Guild) createChannel(c *call) (any, error) {
	if err := g.need(c, proto.PermManageChannels); err != nil {
		return nil, err
	}
	if len(g.channels) >= maxChannels {
		return nil, refuse(proto.ErrMaxChannels)
	}
	ch := g.newChannel(c.form)
	if err := c.err(); err != nil {
		return nil, err
	}
	if !g.mayOverwrite(c, g.base(c), nil, ch.PermissionOverwrites) {
		return nil, refuse(proto.ErrMissingPermissions)
	}
	g.setChannel(ch)
	g.reconcile(ch.ID)
	return ch, nil
}

// newChannel reads a channel that is to be created.
func (g *Guild) newChannel(f *form) *proto.Channel {
	ch := &proto.Channel{ID: g.nextID(), GuildID: g.id, PermissionOverwrites: []proto.Overwrite{}}
	for _, other := range g.channels {
		ch.Position = max(ch.Position, other.Position+1)
	}
	var kind int
	f.integer("type", 0, int(proto.ChannelStage), &kind)
	ch.Type = proto.ChannelType(kind)
	switch ch.Type {
	case proto.ChannelText, proto.ChannelCategory:
	case proto.ChannelVoice, proto.ChannelStage:
		ch.Bitrate = defaultBitrate
	default:
		f.fail("type", "BASE_TYPE_CHOICES", "Value must be one of {0, 2, 4, 13}.")
	}
	f.required("name")
	g.editChannel(f, ch)
	return ch
}

// editChannel reads the fields of a channel into ch, by what its type has.
func (g *Guild) editChannel(f *form, ch *proto.Channel) {
	f.text("name", 1, 100, &ch.Name)
	f.integer("position", 0, 1<<20, &ch.Position)
	g.readOverwrites(f, &ch.PermissionOverwrites)
	if ch.Type == proto.ChannelCategory {
		return
	}
	f.nullableText("topic", 1024, &ch.Topic)
	f.boolean("nsfw", &ch.NSFW)
	f.integer("rate_limit_per_user", 0, 21600, &ch.RateLimitPerUser)
	g.readParent(f, ch)
	if !ch.Type.IsVoice() {
		return
	}
	f.integer("bitrate", 8000, 384000, &ch.Bitrate)
	f.nullableText("rtc_region", 64, &ch.RTCRegion)
	most := 99
	if ch.Type == proto.ChannelStage {
		most = 10000
	}
	f.integer("user_limit", 0, most, &ch.UserLimit)
}

func (g *Guild) readParent(f *form, ch *proto.Channel) {
	before := ch.ParentID
	f.nullableID("parent_id", &ch.ParentID)
	if ch.ParentID == nil || before != nil && *before == *ch.ParentID {
		return
	}
	parent := g.channels[*ch.ParentID]
	if parent == nil || parent.Type != proto.ChannelCategory {
		f.fail("parent_id", "CHANNEL_PARENT_INVALID_TYPE", "Not a category")
		return
	}
	children := 0
	for _, other := range g.channels {
		if other.ParentID != nil && *other.ParentID == parent.ID {
			children++
		}
	}
	if children >= maxInCategory {
		f.fail("parent_id", "CHANNEL_PARENT_MAX_CHANNELS", "Maximum number of channels in category reached (50)")
	}
}

// readOverwrites reads a whole list of overwrites, the last for each target.
func (g *Guild) readOverwrites(f *form, dst *[]proto.Overwrite) {
	list, ok := decode[[]proto.Overwrite](f, "permission_overwrites", "LIST_TYPE_CONVERT", "Must be a list of overwrites.")
	if !ok {
		return
	}
	if len(list) > maxOverwrites {
		f.fail("permission_overwrites", "BASE_TYPE_MAX_LENGTH", "Must be 100 or fewer in length.")
		return
	}
	next := []proto.Overwrite{}
	for _, o := range list {
		if !g.validTarget(o) {
			f.fail("permission_overwrites", "OVERWRITE_TARGET_INVALID", "Must be a role or member of the guild, with type 0 or 1.")
			return
		}
		o.Allow, o.Deny = o.Allow&proto.PermAll, o.Deny&proto.PermAll
		next = append(withoutOverwrite(next, o.ID), o)
	}
	*dst = next
}

func (g *Guild) validTarget(o proto.Overwrite) bool {
	switch o.Type {
	case proto.OverwriteRole:
		return g.roles[o.ID] != nil
	case proto.OverwriteMember:
		return g.members[o.ID] != nil
	}
	return false
}

func withoutOverwrite(list []proto.Overwrite, target proto.Snowflake) []proto.Overwrite {
	return slices.DeleteFunc(slices.Clone(list), func(o proto.Overwrite) bool { return o.ID == target })
}

// mayOverwrite reports whether an actor with the permissions has may turn the
// overwrites old into next: each bit that changes must be the actor's own, and
// MANAGE_ROLES is for administrators to give.
func (g *Guild) mayOverwrite(c *call, has proto.Permissions, old, next []proto.Overwrite) bool {
	if c.admin || has.Has(proto.PermAdministrator) {
		return true
	}
	type bits struct{ allow, deny proto.Permissions }
	before := map[proto.Snowflake]bits{}
	for _, o := range old {
		before[o.ID] = bits{o.Allow, o.Deny}
	}
	var changed proto.Permissions
	for _, o := range next {
		was := before[o.ID]
		changed |= was.allow ^ o.Allow | was.deny ^ o.Deny
		delete(before, o.ID)
	}
	for _, was := range before {
		changed |= was.allow | was.deny
	}
	return changed&^(has&^proto.PermManageRoles) == 0 && (changed == 0 || has.Has(proto.PermManageRoles))
}

func (g *Guild) updateChannel(c *call) (any, error) {
	old, err := g.channelOf(c)
	if err != nil {
		return nil, err
	}
	if err := g.needIn(c, old, proto.PermManageChannels); err != nil {
		return nil, err
	}
	ch := *old
	g.editChannel(c.form, &ch)
	if err := c.err(); err != nil {
		return nil, err
	}
	if !g.mayOverwrite(c, g.inChannel(c, old), old.PermissionOverwrites, ch.PermissionOverwrites) {
		return nil, refuse(proto.ErrMissingPermissions)
	}
	g.replaceChannel(&ch)
	return &ch, nil
}

// replaceChannel changes a channel and tells whoever sees it afterwards.
func (g *Guild) replaceChannel(ch *proto.Channel) {
	g.setChannel(ch)
	g.reconcile(0)
	g.dispatch("CHANNEL_UPDATE", proto.IntentGuilds, g.viewers(ch.ID), ch)
}

func (g *Guild) deleteChannel(c *call) (any, error) {
	ch, err := g.channelOf(c)
	if err != nil {
		return nil, err
	}
	if err := g.needIn(c, ch, proto.PermManageChannels); err != nil {
		return nil, err
	}
	for _, v := range g.occupants(ch.ID) {
		g.leaveVoice(v, CloseTerminated)
	}
	for _, invite := range g.sortedInvites() {
		if invite.ChannelID == ch.ID {
			g.removeInvite(invite)
		}
	}
	for _, child := range g.sortedChannels() {
		if child.ParentID != nil && *child.ParentID == ch.ID {
			orphan := *child
			orphan.ParentID = nil
			g.replaceChannel(&orphan)
		}
	}
	g.dispatch("CHANNEL_DELETE", proto.IntentGuilds, g.viewers(ch.ID), ch)
	unset(g, g.channels, ch.ID)
	g.write(Write{DeleteChannel: ch.ID})
	g.reconcile(0)
	g.forgetChannel(ch.ID)
	return ch, nil
}

// forgetChannel clears the settings that name a channel that is gone.
func (g *Guild) forgetChannel(id proto.Snowflake) {
	info := *g.info
	for _, setting := range []**proto.Snowflake{&info.AFKChannelID, &info.SystemChannelID} {
		if *setting != nil && **setting == id {
			*setting = nil
		}
	}
	if info.AFKChannelID != g.info.AFKChannelID || info.SystemChannelID != g.info.SystemChannelID {
		g.setInfo(&info)
		g.dispatch("GUILD_UPDATE", proto.IntentGuilds, nil, g.object())
	}
}

func (g *Guild) moveChannels(c *call) (any, error) {
	if err := g.need(c, proto.PermManageChannels); err != nil {
		return nil, err
	}
	var bodies []json.RawMessage
	if json.Unmarshal(c.body, &bodies) != nil || len(bodies) > maxChannels {
		return nil, refuse(proto.ErrInvalidJSON)
	}
	var moved []*proto.Channel
	for _, body := range bodies {
		f, err := parseForm(body)
		if err != nil {
			return nil, err
		}
		var id proto.Snowflake
		f.id("id", &id)
		if g.channels[id] == nil {
			return nil, refuse(proto.ErrUnknownChannel)
		}
		ch := *g.channels[id]
		f.integer("position", 0, 1<<20, &ch.Position)
		if ch.Type != proto.ChannelCategory {
			g.readParent(f, &ch)
		}
		if err := f.err(); err != nil {
			return nil, err
		}
		moved = append(moved, &ch)
	}
	for _, ch := range moved {
		g.replaceChannel(ch)
	}
	return nil, nil
}

func (g *Guild) putOverwrite(c *call) (any, error) {
	ch, err := g.channelOf(c)
	if err != nil {
		return nil, err
	}
	if err := g.needIn(c, ch, proto.PermManageRoles); err != nil {
		return nil, err
	}
	var o proto.Overwrite
	if o.ID, err = proto.ParseSnowflake(c.params["target"]); err != nil {
		return nil, refuse(proto.ErrUnknownOverwrite)
	}
	var kind int
	c.integer("type", 0, 1, &kind)
	o.Type = proto.OverwriteType(kind)
	c.permissions("allow", &o.Allow)
	c.permissions("deny", &o.Deny)
	if err := c.err(); err != nil {
		return nil, err
	}
	if !g.validTarget(o) {
		return nil, refuse(proto.ErrUnknownOverwrite)
	}
	next := *ch
	next.PermissionOverwrites = append(withoutOverwrite(ch.PermissionOverwrites, o.ID), o)
	return nil, g.overwrite(c, ch, &next)
}

func (g *Guild) deleteOverwrite(c *call) (any, error) {
	ch, err := g.channelOf(c)
	if err != nil {
		return nil, err
	}
	if err := g.needIn(c, ch, proto.PermManageRoles); err != nil {
		return nil, err
	}
	target, err := proto.ParseSnowflake(c.params["target"])
	next := *ch
	next.PermissionOverwrites = withoutOverwrite(ch.PermissionOverwrites, target)
	if err != nil || len(next.PermissionOverwrites) == len(ch.PermissionOverwrites) {
		return nil, refuse(proto.ErrUnknownOverwrite)
	}
	return nil, g.overwrite(c, ch, &next)
}

func (g *Guild) overwrite(c *call, old, next *proto.Channel) error {
	if len(next.PermissionOverwrites) > maxOverwrites || !g.mayOverwrite(c, g.inChannel(c, old), old.PermissionOverwrites, next.PermissionOverwrites) {
		return refuse(proto.ErrMissingPermissions)
	}
	g.replaceChannel(next)
	return nil
}
