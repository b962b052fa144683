package node

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"hubbub.dev/hubbub/internal/core/fleet"
	"hubbub.dev/hubbub/internal/edge/bus"
	"hubbub.dev/hubbub/internal/edge/monotonic"
	"hubbub.dev/hubbub/proto"
)

const (
	// drainLook is how often it is looked whether everybody has gone over.
	drainLook = 50 * time.Millisecond
	// drainAsk bounds asking another node to drain.
	drainAsk = 2 * time.Second
	// maxDrainBody bounds the body of POST /admin/v1/drain.
	maxDrainBody = 1 << 10
)

// draining answers a node that was asked to drain.
type draining struct {
	Node  string `cbor:"1,keyasint" json:"node"`
	Peers int    `cbor:"2,keyasint" json:"peers"` // that are to go over
}

func drainSubject(node string) string { return "fleet." + node + ".drain" }

// openDrain lets other nodes pass on that this one is to drain.
func (n *Node) openDrain() error {
	unsubscribe, err := n.bus.Subscribe(drainSubject(n.name), func(m bus.Message) {
		if err := m.Respond(n.leave()); err != nil {
			n.log.Warn("not answered that this node drains", "err", err)
		}
	})
	if err == nil {
		n.onClose(unsubscribe)
	}
	return err
}

// leave notes that the operator wants the node to drain and end.
func (n *Node) leave() draining {
	n.askedOnce.Do(func() { close(n.asked) })
	d := draining{Node: n.name}
	if n.voice != nil {
		d.Peers = n.voice.Sessions()
	}
	return d
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
	for n.voice.Sessions() > 0 {
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

// askDrain is POST /admin/v1/drain: this node, or the one of the fleet that the body
// names, is to drain and end. Every node has it, whatever its roles.
func (n *Node) askDrain(w http.ResponseWriter, r *http.Request) {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if subtle.ConstantTimeCompare([]byte(bearer), []byte(n.adminToken)) != 1 {
		writeStatus(w, http.StatusUnauthorized, proto.ErrorBody{Message: "401: Unauthorized"})
		return
	}
	var body struct {
		Node string `json:"node"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDrainBody)).Decode(&body); err != nil {
		writeStatus(w, http.StatusBadRequest, proto.ErrorBody{Code: proto.ErrInvalidJSON, Message: "The request body contains invalid JSON."})
		return
	}
	if body.Node == "" || body.Node == n.name {
		writeStatus(w, http.StatusAccepted, n.leave())
		return
	}
	if !fleet.ValidName(body.Node) {
		writeStatus(w, http.StatusNotFound, proto.ErrorBody{Message: "There is no such node."})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), drainAsk)
	defer cancel()
	var answer draining
	switch err := n.bus.Request(ctx, drainSubject(body.Node), struct{}{}, &answer); {
	case errors.Is(err, bus.ErrNoResponders):
		writeStatus(w, http.StatusNotFound, proto.ErrorBody{Message: "There is no such node."})
	case err != nil:
		writeStatus(w, http.StatusServiceUnavailable, proto.ErrorBody{Message: "The node does not answer."})
	default:
		writeStatus(w, http.StatusAccepted, answer)
	}
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
