package sfu

// maxSources is above the most sources that a channel can have.
const maxSources = 1 << 24

// channel is a set of peers who hear one another.
type channel struct {
	id      uint64
	peers   int // all of them, connected or not
	entered int // how many there ever were
	// members are the relays, the connected peers that listen, and the deafened, in this
	// order. Relays come first, for what they are sent has another way to go.
	members   []Slot
	relays    int
	listening int // with the relays

	floor []Slot // those who are heard

	sources     int // numbers given to sources so far
	freeSources []int
	// ended are the sources of other workers that have ended: those that were heard
	// here, and apart from them, so that they push none of those out, those that were not.
	ended, unheard endings

	first, last int // deliveries of the channel in Router.queued, while there are any
	queued      int // how many
}

func (c *channel) join(peers []peer, slot Slot) {
	peers[slot].index = len(c.members)
	c.members = append(c.members, slot)
	if peers[slot].flags&Deafened == 0 {
		c.swap(peers, len(c.members)-1, c.listening)
		c.listening++
	}
	if peers[slot].relay != nil {
		c.swap(peers, c.listening-1, c.relays)
		c.relays++
	}
}

func (c *channel) leave(peers []peer, slot Slot) {
	i := peers[slot].index
	if i < c.relays {
		c.relays--
		c.swap(peers, i, c.relays)
		i = c.relays
	}
	if i < c.listening {
		c.listening--
		c.swap(peers, i, c.listening)
		i = c.listening
	}
	last := len(c.members) - 1
	c.swap(peers, i, last)
	c.members = c.members[:last]
	peers[slot].index = absent
}

func (c *channel) swap(peers []peer, i, j int) {
	m := c.members
	m[i], m[j] = m[j], m[i]
	peers[m[i]].index, peers[m[j]].index = i, j
}

// audience returns how many get what a peer sends, itself aside: relays too, unless a
// relay brought it.
func (c *channel) audience(p *peer) int {
	switch {
	case p.via != nil:
		return c.listening - c.relays
	case p.index != absent && p.index < c.listening:
		return c.listening - 1
	}
	return c.listening
}

// takeSource returns a small number, for receivers keep tables of them, that no
// other source of the channel has now.
func (c *channel) takeSource() int {
	if n := len(c.freeSources); n > 0 {
		source := c.freeSources[n-1]
		c.freeSources = c.freeSources[:n-1]
		return source
	}
	c.sources++
	return c.sources - 1
}

func (c *channel) releaseSource(source int) { c.freeSources = append(c.freeSources, source) }
