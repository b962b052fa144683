//go:build linux

package chaos

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

const (
	// audible is how long somebody may be silent and still be heard.
	audible = 400 * time.Millisecond
	// settleLimit is how long all may take until it is right again.
	settleLimit = 45 * time.Second
	settleSlow  = 3 * time.Second // worth a word
	settlePoll  = 100 * time.Millisecond
	// calmFor is how long all has to be right: a node that comes back is given its guilds a
	// second after the others hear of it.
	calmFor    = 2 * time.Second
	auditLimit = 8 * time.Second
)

// tenure is one term of office of a guild's owner.
type tenure struct {
	guild      int64
	generation int64
}

// truth is where everybody of a guild is, by who really is there. The session of the
// browser is for its gateway to say.
func (w *world) truth(g *community) map[proto.Snowflake]place {
	all := map[proto.Snowflake]place{}
	for _, p := range g.people {
		all[p.id] = place{g.lounge, p.gw.SessionID()}
	}
	if v := w.visitor; v != nil && v.guild == g {
		all[v.id] = place{channel: g.lounge}
	}
	return all
}

// differ says how what somebody was told differs from the truth, "" for not at all.
func differ(told, truth map[proto.Snowflake]place) string {
	var all []string
	for user, at := range truth {
		if was, there := told[user]; !there {
			all = append(all, fmt.Sprintf("%d is not in voice", user))
		} else if was.channel != at.channel || at.session != "" && was.session != at.session {
			all = append(all, fmt.Sprintf("%d is at %v, not %v", user, was, at))
		}
	}
	for user := range told {
		if _, there := truth[user]; !there {
			all = append(all, fmt.Sprintf("%d is in voice", user))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// wrong lists what is not right now; nothing is when all is quiet.
func (w *world) wrong() []string {
	truths := map[*community]map[proto.Snowflake]place{}
	for _, g := range w.guilds {
		truths[g] = w.truth(g)
	}
	var all []string
	for _, p := range w.people {
		if what := p.wrong(truths[p.guild]); what != "" {
			all = append(all, what)
		}
	}
	if w.visitor != nil {
		if what := w.visitor.wrong(); what != "" {
			all = append(all, what)
		}
	}
	if len(all) > 0 {
		return all // what others say is not worth asking for
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), auditLimit)
	defer cancel()
	for _, look := range []func(context.Context) []string{w.databaseWrong, w.ownersWrong, w.gatewaysWrong} {
		all = append(all, look(ctx)...)
	}
	return all
}

// settle waits until nothing is wrong, returns since when, and says what was wrong last when
// that took long. What stays wrong fails the test.
func (w *world) settle(after string) (since time.Duration, ok bool) {
	w.t.Helper()
	began, last, right := w.now(), "", false
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for {
		at, wrong := w.now(), w.wrong()
		switch {
		case len(wrong) == 0 && *full && !right:
			right, since = true, at
			w.hold(calmFor)
			continue
		case len(wrong) == 0:
			if !right {
				since = at
			}
			if took := since - began; took > settleSlow {
				w.t.Logf("%s: right after %.1f s, when last: %s", after, took.Seconds(), last)
			}
			return since, true
		case at-began > settleLimit:
			w.t.Errorf("%s: %v later:\n%s", after, (at - began).Round(time.Second), strings.Join(wrong[:min(len(wrong), 12)], "\n"))
			return at, false
		}
		right, last = false, wrong[0]
		select {
		case <-tick.C:
		case <-w.t.Context().Done():
			w.t.Fatal("the run was ended")
		}
	}
}

// audit is what one gateway tells somebody who comes anew.
type audit struct {
	voice   map[proto.Snowflake]place
	members map[proto.Snowflake]bool
}

// ask opens a session on a gateway and returns what it says of every guild.
func (w *world) ask(ctx context.Context, at *harness.FleetNode) (map[proto.Snowflake]audit, error) {
	c, err := client.New(client.Config{BaseURL: at.URL(), Token: w.auditor.Token})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	gw := c.Gateway(client.GatewayOptions{Intents: proto.IntentGuilds | proto.IntentGuildVoice})
	said := make(chan proto.GuildCreate, 10*len(w.guilds))
	client.On(gw, client.GuildCreate, func(g proto.GuildCreate) { said <- g })
	defer gw.Close()
	if err := gw.Connect(ctx); err != nil {
		return nil, err
	}
	all := map[proto.Snowflake]audit{}
	for len(all) < len(w.guilds) {
		select {
		case g := <-said:
			a := audit{map[proto.Snowflake]place{}, map[proto.Snowflake]bool{}}
			for _, s := range g.VoiceStates {
				if s.ChannelID != nil {
					a.voice[s.UserID] = place{*s.ChannelID, s.SessionID}
				}
			}
			for i := range g.Members {
				a.members[g.Members[i].User.ID] = true
			}
			all[g.ID] = a
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d guilds came: %w", len(all), len(w.guilds), ctx.Err())
		}
	}
	return all, nil
}

// gatewaysWrong compares what each gateway tells a newcomer with the truth, with the
// members of the database, and with the other gateways.
func (w *world) gatewaysWrong(ctx context.Context) []string {
	nodes := w.fleet.With(fleet.Gateway)
	answers, errs := make([]map[proto.Snowflake]audit, len(nodes)), make([]error, len(nodes))
	var tasks sync.WaitGroup
	for i, n := range nodes {
		tasks.Go(func() { answers[i], errs[i] = w.ask(ctx, n) })
	}
	tasks.Wait()
	var all []string
	for i, n := range nodes {
		if errs[i] != nil {
			all = append(all, fmt.Sprintf("%s: %v", n.Name, errs[i]))
			continue
		}
		for _, g := range w.guilds {
			a := answers[i][g.id]
			if diff := differ(a.voice, w.truth(g)); diff != "" {
				all = append(all, fmt.Sprintf("%s tells newcomers of guild %d: %s", n.Name, g.id, diff))
			}
			if !maps.Equal(a.members, w.members[g.id]) {
				all = append(all, fmt.Sprintf("%s tells newcomers of guild %d of %d members, not %d", n.Name, g.id, len(a.members), len(w.members[g.id])))
			}
			if first := answers[0]; first != nil && !maps.Equal(a.voice, first[g.id].voice) {
				all = append(all, fmt.Sprintf("%s and %s say different things of guild %d", nodes[0].Name, n.Name, g.id))
			}
		}
	}
	return all
}

// databaseWrong reads members and owners from the database: members stay, a
// generation has one owner and is followed by later ones only.
func (w *world) databaseWrong(ctx context.Context) []string {
	conn, err := pgx.Connect(ctx, w.db.DSN)
	if err != nil {
		return []string{fmt.Sprintf("database: %v", err)}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var all []string
	members := map[proto.Snowflake]map[proto.Snowflake]bool{}
	for _, g := range w.guilds {
		members[g.id] = map[proto.Snowflake]bool{}
	}
	rows, err := conn.Query(ctx, "SELECT guild_id, user_id FROM members")
	if err != nil {
		return []string{err.Error()}
	}
	var guildID, user, generation int64
	if _, err = pgx.ForEachRow(rows, []any{&guildID, &user}, func() error {
		if of := members[proto.Snowflake(guildID)]; of != nil {
			of[proto.Snowflake(user)] = true
		}
		return nil
	}); err != nil {
		return []string{err.Error()}
	}
	if w.members == nil {
		w.members = members // nobody comes or goes after this
	} else if !maps.EqualFunc(members, w.members, maps.Equal) {
		all = append(all, "the database has other members than before")
	}
	if rows, err = conn.Query(ctx, "SELECT id, owner, generation FROM guilds"); err != nil {
		return []string{err.Error()}
	}
	var owner string
	_, err = pgx.ForEachRow(rows, []any{&guildID, &owner, &generation}, func() error {
		for past, was := range w.tenures {
			if past.guild == guildID && (past.generation > generation || past.generation == generation && was != owner) {
				all = append(all, fmt.Sprintf("guild %d is %s's in generation %d, and was %s's in %d", guildID, owner, generation, was, past.generation))
			}
		}
		w.tenures[tenure{guildID, generation}] = owner
		return nil
	})
	if err != nil {
		all = append(all, err.Error())
	}
	return all
}

// ownersWrong asks every node what it has: each guild is with one guild node, and
// everybody in voice has one session, all of a channel on one voice node.
func (w *world) ownersWrong(ctx context.Context) []string {
	var all []string
	sum := func(role fleet.Roles, metric string, want int) {
		got, parts := 0.0, []string{}
		for _, n := range w.fleet.With(role) {
			v, err := metricOf(ctx, n, metric)
			if err != nil {
				all = append(all, fmt.Sprintf("%s: %v", n.Name, err))
				return
			}
			got += v
			parts = append(parts, fmt.Sprintf("%s %g", n.Name, v))
		}
		if int(got) != want {
			all = append(all, fmt.Sprintf("%s is %g in all, not %d: %s", metric, got, want, strings.Join(parts, ", ")))
		}
	}
	talkers := 0
	for _, g := range w.guilds {
		talkers += len(w.truth(g))
	}
	sum(fleet.Guilds, "hubbub_guilds_loaded", w.allGuilds())
	sum(fleet.Voice, "hubbub_voice_sessions", talkers)
	var list []guild.VoiceListEntry
	if err := w.admin().Do(ctx, http.MethodGet, "/voice", nil, &list); err != nil {
		return append(all, err.Error())
	}
	nodes, listed := map[proto.Snowflake]string{}, map[proto.Snowflake]bool{}
	for _, e := range list {
		if was := nodes[e.Channel]; was != "" && was != e.Node {
			all = append(all, fmt.Sprintf("channel %d is on %s and %s", e.Channel, was, e.Node))
		}
		if listed[e.User] {
			all = append(all, fmt.Sprintf("%d is in voice twice", e.User))
		}
		if e.Transport == "" {
			all = append(all, fmt.Sprintf("%d is connecting", e.User))
		}
		nodes[e.Channel], listed[e.User] = e.Node, true
	}
	if len(list) != talkers {
		all = append(all, fmt.Sprintf("%d are listed in voice, not %d", len(list), talkers))
	}
	return all
}

// allGuilds is how many guilds the database has.
func (w *world) allGuilds() int {
	guilds := map[int64]bool{}
	for t := range w.tenures {
		guilds[t.guild] = true
	}
	return len(guilds)
}

var metricsClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: auditLimit}

// metricOf returns the sum of a metric's series on a node.
func metricOf(ctx context.Context, n *harness.FleetNode, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := metricsClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	sum, found := harness.Metric(string(text), name)
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}
