package sim

import (
	"errors"
	"maps"
	"slices"
	"time"

	"hubbub.dev/hubbub/internal/core/guild"
	"hubbub.dev/hubbub/proto"
)

var (
	errFenced = errors.New("the guild has another owner")
	errAway   = errors.New("the database is away")
)

const storeTimeout = 5 * time.Second

// tenure names an owner and its time, as edge/store's Tenure does.
type tenure struct {
	owner      string
	generation uint64
}

// row is a guild in the database.
type row struct {
	guild    proto.Guild // with roles
	channels map[proto.Snowflake]proto.Channel
	members  map[proto.Snowflake]proto.Member
	tenure
}

// database mirrors edge/store: transactions that happen at one instant between question
// and answer, a fence by owner and generation, and outages.
type database struct {
	w    *world
	rows map[proto.Snowflake]*row
	// down is an outage; hanging ones answer nothing until storeTimeout, others fail
	// at once.
	down, hangs bool
}

func newDatabase(w *world) database {
	return database{w: w, rows: map[proto.Snowflake]*row{}}
}

// query runs do on the database, and then in the process with what came of it. What
// was done stays done when the process ends before it hears of it.
func (p *process) query(do func(db *database) error, then func(error)) {
	w := p.w
	began := w.now
	answer := func(after time.Duration, err error) {
		w.after(after, func() { p.do(aMessage, func() { then(err) }) })
	}
	var try func()
	try = func() {
		switch {
		case p.dead:
		case !w.db.down:
			answer(w.between(200*time.Microsecond, 3*time.Millisecond), do(&w.db))
		case !w.db.hangs:
			answer(time.Millisecond, errAway)
		case w.now.Sub(began) >= storeTimeout:
			answer(0, errAway)
		default:
			w.after(250*time.Millisecond, try)
		}
	}
	w.after(w.between(200*time.Microsecond, 3*time.Millisecond), try)
}

// take mirrors Store.TakeGuild.
func (db *database) take(id proto.Snowflake, owner string) (guild.Record, tenure, bool) {
	r := db.rows[id]
	if r == nil {
		return guild.Record{}, tenure{}, false
	}
	if r.owner != owner {
		r.tenure = tenure{owner, r.generation + 1}
		db.w.result.Takes++
		if r.generation > 1 {
			db.w.checks.drift[id] = "it has changed owners"
		}
		db.w.trace("%s takes guild %d, generation %d", owner, id, r.generation)
	}
	return r.record(), r.tenure, true
}

func (r *row) record() guild.Record {
	rec := guild.Record{Guild: r.guild}
	rec.Guild.Roles = slices.Clone(r.guild.Roles)
	for _, id := range slices.Sorted(maps.Keys(r.channels)) {
		rec.Channels = append(rec.Channels, r.channels[id])
	}
	for _, id := range slices.Sorted(maps.Keys(r.members)) {
		rec.Members = append(rec.Members, r.members[id])
	}
	return rec
}

// apply mirrors Store.Apply.
func (db *database) apply(id proto.Snowflake, t tenure, writes []guild.Write) error {
	r := db.rows[id]
	if r == nil || r.tenure != t {
		if !db.w.bug("no fence") {
			db.w.result.Fenced++
			return errFenced
		}
		db.w.violate("guild %d: %s wrote in generation %d, and %s has it in %d", id, t.owner, t.generation, r.owner, r.generation)
	}
	for _, x := range writes {
		switch {
		case x.Guild != nil:
			roles := r.guild.Roles
			r.guild = *x.Guild
			r.guild.Roles = roles
		case x.Channel != nil:
			r.channels[x.Channel.ID] = *x.Channel
		case x.Member != nil:
			r.members[x.Member.User.ID] = *x.Member
		case x.DeleteChannel != 0:
			delete(r.channels, x.DeleteChannel)
		}
	}
	return nil
}

// guildsOf returns the guilds that a user is a member of.
func (db *database) guildsOf(user proto.Snowflake) []proto.Snowflake {
	var ids []proto.Snowflake
	for _, id := range slices.Sorted(maps.Keys(db.rows)) {
		if _, in := db.rows[id].members[user]; in {
			ids = append(ids, id)
		}
	}
	return ids
}
