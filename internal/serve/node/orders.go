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
	"hubbub.dev/hubbub/proto"
)

const (
	// orderWithin bounds what a node is told to do at once.
	orderWithin = 15 * time.Second
	// maxOrderBody bounds the body of an order.
	maxOrderBody = 1 << 10
)

// outcome answers an order.
type outcome struct {
	Node  string `cbor:"1,keyasint" json:"node"`
	Peers int    `cbor:"2,keyasint" json:"peers,omitempty"` // that are to go over
	// Refused says why nothing was done.
	Refused string `cbor:"3,keyasint,omitempty" json:"-"`
}

// order is one thing that an operator can have any node of the fleet do, through the
// admin API of any other: POST /admin/v1/NAME with the node's name, or with none for the
// node that is asked. Every node takes orders, whatever its roles.
type order struct {
	node *Node
	name string
	do   func(context.Context) (outcome, error)
}

func (n *Node) orders() []order {
	return []order{{n, "drain", n.leave}, {n, "upgrade", n.upgrade}}
}

func (o *order) subject(node string) string { return "fleet." + node + "." + o.name }

// openOrders has this node hear the orders that others pass on.
func (n *Node) openOrders() error {
	for _, o := range n.orders() {
		unsubscribe, err := n.bus.Subscribe(o.subject(n.name), func(m bus.Message) {
			n.group.Go("order", func(ctx context.Context) {
				if err := m.Respond(o.carryOut(ctx)); err != nil {
					n.log.Warn("order not answered", "order", o.name, "err", err)
				}
			})
		})
		if err != nil {
			return err
		}
		n.onClose(unsubscribe)
	}
	return nil
}

func (o *order) carryOut(ctx context.Context) outcome {
	ctx, cancel := context.WithTimeout(ctx, orderWithin)
	defer cancel()
	is, err := o.do(ctx)
	if err != nil {
		is.Refused = err.Error()
	}
	is.Node = o.node.name
	return is
}

// ServeHTTP takes an order of the admin API.
func (o *order) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := o.node
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if subtle.ConstantTimeCompare([]byte(bearer), []byte(n.adminToken)) != 1 {
		writeStatus(w, http.StatusUnauthorized, proto.ErrorBody{Message: "401: Unauthorized"})
		return
	}
	var body struct {
		Node string `json:"node"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrderBody)).Decode(&body); err != nil {
		writeStatus(w, http.StatusBadRequest, proto.ErrorBody{Code: proto.ErrInvalidJSON, Message: "The request body contains invalid JSON."})
		return
	}
	var is outcome
	switch {
	case body.Node == "" || body.Node == n.name:
		is = o.carryOut(r.Context())
	case !fleet.ValidName(body.Node):
		writeStatus(w, http.StatusNotFound, proto.ErrorBody{Message: "There is no such node."})
		return
	default:
		ctx, cancel := context.WithTimeout(r.Context(), orderWithin)
		defer cancel()
		switch err := n.bus.Request(ctx, o.subject(body.Node), struct{}{}, &is); {
		case errors.Is(err, bus.ErrNoResponders):
			writeStatus(w, http.StatusNotFound, proto.ErrorBody{Message: "There is no such node."})
			return
		case err != nil:
			writeStatus(w, http.StatusServiceUnavailable, proto.ErrorBody{Message: "The node does not answer."})
			return
		}
	}
	if is.Refused != "" {
		writeStatus(w, http.StatusConflict, proto.ErrorBody{Message: is.Refused})
		return
	}
	writeStatus(w, http.StatusAccepted, is)
}

func (n *Node) upgrade(ctx context.Context) (outcome, error) { return outcome{}, n.Upgrade(ctx) }
