package node

import (
	"context"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/edge/monotonic"
)

// drainLook is how often it is looked whether everybody has gone over.
const drainLook = 50 * time.Millisecond

// leave notes that the operator wants the node to drain and end.
func (n *Node) leave(context.Context) (outcome, error) {
	n.askedOnce.Do(func() { close(n.asked) })
	o := outcome{Node: n.name}
	if n.voice != nil {
		o.Peers = n.voice.Sessions()
	}
	return o, nil
}

// Asked is closed when the operator has asked for the node to drain and end.
func (n *Node) Asked() <-chan struct{} { return n.asked }

// Drain tells the fleet that the node takes nothing new, and returns when its calls and its
// gateway's sessions have gone over to other nodes, with ctx, or after
// Config.DrainTimeout. What no other node could take is not waited for. Close comes next.
func (n *Node) Drain(ctx context.Context) {
	n.draining.Store(true)
	calls := n.voice != nil && n.relieved(fleet.Voice)
	sessions := n.gateway != nil && n.relieved(fleet.Gateway)
	if n.cfg.DrainTimeout == 0 || !calls && !sessions {
		return
	}
	n.discovery.Drain(ctx)
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DrainTimeout)
	defer cancel()
	if calls {
		n.drainCalls(ctx)
	}
	// Their clients are told of voice servers until then.
	if sessions {
		n.log.Info("draining: gateway sessions go over to other nodes")
		n.gateway.Drain(ctx)
	}
}

func (n *Node) drainCalls(ctx context.Context) {
	n.log.Info("draining: calls go over to other nodes", "peers", n.voice.Sessions(), "at_most", n.cfg.DrainTimeout)
	for n.voice.Sessions() > 0 && n.relieved(fleet.Voice) { // others may drain too
		if !pause(ctx, drainLook) {
			n.log.Warn("draining is given up", "peers", n.voice.Sessions())
			return
		}
	}
}

// relieved reports whether there is another node in a role.
func (n *Node) relieved(role fleet.Roles) bool {
	for _, m := range n.discovery.View().Members() {
		if m.Name != n.name && m.Roles.Has(role) && !m.Draining && m.Ailing == "" {
			return true
		}
	}
	return false
}

// attacked reports whether channels are better elsewhere: a media worker is attacked, or
// was not long ago.
func (n *Node) attacked() bool {
	attacked := false
	for i := range n.media.Workers() {
		attacked = attacked || n.media.Stats(i).Attacked
	}
	return n.exile.Away(monotonic.Now(), attacked)
}
