package signalling

import (
	"math/bits"
	"slices"

	"hubbub.dev/hubbub/internal/core/sfu"
)

const (
	// homeShift is where a PeerID has its shard, above 2^48 peers of each.
	homeShift = 48
	// maxUnposted bounds what is kept for a worker that takes nothing, save for what
	// ends a peer or begins a relay.
	maxUnposted = 1 << 16
)

// HomeOf returns the number of the shard that made a peer.
func HomeOf(peer sfu.PeerID) int { return int(peer >> homeShift) }

// nextPeer returns a PeerID that no shard of the node has used.
func (s *Shard) nextPeer() sfu.PeerID {
	s.lastPeer++
	return s.lastPeer
}

// ssrcs gives out the SSRCs of one shard: above the two low bits, which stay zero, they
// have the shard's number, so that no two of a node's shards give out the same.
type ssrcs struct {
	count, step uint32
	home        uint32
	shift       int
}

func newSSRCs(seed uint64, home, shards int) ssrcs {
	shift := 2 + bits.Len(uint(shards-1))
	// An odd step visits all numbers before it repeats one.
	return ssrcs{count: uint32(seed >> 32), step: uint32(seed) | 1, home: uint32(home) << 2, shift: shift}
}

// next returns an SSRC that comes back only after all others of the shard.
func (n *ssrcs) next() uint32 {
	for {
		n.count += n.step
		if ssrc := n.count<<n.shift | n.home; ssrc != 0 {
			return ssrc
		}
	}
}

// half is what a channel has on one worker.
type half struct{ worker, sessions int }

// link is a relay between two workers, which both know it by the same PeerID.
type link struct {
	a, b int
	peer sfu.PeerID
}

// posting is a command that a worker has not taken.
type posting struct {
	worker  int
	command sfu.Command
}

// occupy counts a session more of a channel on a worker. The first there has the worker
// joined to all others with peers of the channel.
func (s *Shard) occupy(ch *channel, worker int) {
	for i := range ch.halves {
		if ch.halves[i].worker == worker {
			ch.halves[i].sessions++
			return
		}
	}
	for _, other := range ch.halves {
		s.join(ch, other.worker, worker)
	}
	ch.halves = append(ch.halves, half{worker: worker, sessions: 1})
}

// vacate takes a session's place back. Other workers may have heard it; those that hear
// nobody else from there lose the relay.
func (s *Shard) vacate(x *session) {
	ch := x.channel
	i := slices.IndexFunc(ch.halves, func(h half) bool { return h.worker == x.worker })
	ch.halves[i].sessions--
	if ch.halves[i].sessions == 0 {
		ch.halves = slices.Delete(ch.halves, i, i+1)
		s.part(ch, x.worker)
		return
	}
	for _, other := range ch.halves {
		if other.worker != x.worker {
			s.post(other.worker, sfu.Command{End: &sfu.EndSource{Channel: uint64(ch.id), SSRC: x.ssrc}})
		}
	}
}

// join has two workers relay a channel to one another, under keys that serve for
// nothing else.
func (s *Shard) join(ch *channel, a, b int) {
	l := link{a: a, b: b, peer: s.nextPeer()}
	ch.relays = append(ch.relays, l)
	there, back := s.relayKey(), s.relayKey()
	s.post(a, sfu.Command{Relay: &sfu.AddRelay{
		Peer: l.peer, Channel: uint64(ch.id), Addr: s.cfg.Workers[b].Addr, Out: there, In: back,
	}})
	s.post(b, sfu.Command{Relay: &sfu.AddRelay{
		Peer: l.peer, Channel: uint64(ch.id), Addr: s.cfg.Workers[a].Addr, Out: back, In: there,
	}})
}

func (s *Shard) relayKey() sfu.RelayKey {
	k := sfu.RelayKey{SSRC: s.ssrcs.next()}
	s.cfg.Random(k.Key[:])
	return k
}

// part ends a worker's relays of a channel.
func (s *Shard) part(ch *channel, worker int) {
	ch.relays = slices.DeleteFunc(ch.relays, func(l link) bool {
		if l.a != worker && l.b != worker {
			return false
		}
		// A worker must not make it after it was told to end it.
		s.unposted = slices.DeleteFunc(s.unposted, func(p posting) bool {
			return p.command.Relay != nil && p.command.Relay.Peer == l.peer
		})
		for _, end := range []int{l.a, l.b} {
			s.post(end, sfu.Command{Remove: &sfu.RemovePeer{Peer: l.peer}})
		}
		return true
	})
}
