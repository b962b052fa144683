package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hubbub.dev/hubbub/proto"
)

const (
	eventQueue   = 1024
	commandQueue = 64
)

// Errors of a Gateway.
var (
	ErrClosed    = errors.New("client: closed")
	ErrQueueFull = errors.New("client: too many commands wait for the gateway")

	errBehind  = errors.New("client: event handlers are too far behind")
	errInvalid = errors.New("client: invalid session")
	errAsked   = errors.New("client: the server asked to reconnect")
)

// GatewayOptions says what a gateway session asks for.
type GatewayOptions struct {
	// Intents are the event groups a bot wants; users get all of them.
	Intents proto.Intents
	// Shard is {shard, of how many}, or nil for one session with every guild.
	Shard *[2]int
}

// Gateway is one gateway session: it reconnects by itself, with a resume where
// the server allows one and a fresh Identify where not, and takes the voice
// connections along. It is safe for concurrent use.
type Gateway struct {
	c        *Client
	options  GatewayOptions
	handlers handlerTable
	events   chan dispatch
	out      chan any
	traffic  traffic

	ctx    context.Context
	cancel context.CancelFunc
	ready  chan struct{} // closed at the first READY
	tasks  sync.WaitGroup

	// lively is set while the connection of the moment has a session: from READY
	// or RESUMED to the cut.
	lively atomic.Bool

	mu      sync.Mutex
	started bool
	err     error // why the session ended for good
	user    proto.User
	session string
	voices  map[proto.Snowflake]*Voice

	// The rest belongs to the session goroutine.
	socket    *socket
	resumeURL string
	seq       uint64
}

// Gateway returns a session that is not connected yet, for handlers to be
// registered first.
func (c *Client) Gateway(o GatewayOptions) *Gateway {
	ctx, cancel := context.WithCancel(context.Background())
	return &Gateway{
		c: c, options: o,
		events: make(chan dispatch, eventQueue),
		out:    make(chan any, commandQueue),
		ctx:    ctx, cancel: cancel,
		ready:  make(chan struct{}),
		voices: make(map[proto.Snowflake]*Voice),
	}
}

// Connect starts the session and waits for READY. Afterwards the session lives
// until Close, whatever becomes of ctx.
func (g *Gateway) Connect(ctx context.Context) error {
	g.mu.Lock()
	if g.started {
		g.mu.Unlock()
		return errors.New("client: Connect was called before")
	}
	g.started = true
	g.tasks.Add(2)
	g.mu.Unlock()
	go g.run()
	go g.deliver()
	select {
	case <-g.ready:
		return nil
	case <-g.ctx.Done():
		return g.Err()
	case <-ctx.Done():
		g.end(ctx.Err())
		g.tasks.Wait()
		return fmt.Errorf("client: no READY: %w", ctx.Err())
	}
}

// Close leaves every voice channel, ends the session at the server and waits
// for all goroutines. It must not be called by an event handler.
func (g *Gateway) Close() {
	g.mu.Lock()
	if g.err == nil {
		g.err = ErrClosed // from here on nobody joins
	}
	voices := slices.Collect(maps.Values(g.voices))
	g.mu.Unlock()
	for _, v := range voices {
		v.end(ErrClosed)
		<-v.done
	}
	g.end(ErrClosed)
	g.tasks.Wait()
}

// Done is closed when the session has ended for good; Err says why.
func (g *Gateway) Done() <-chan struct{} { return g.ctx.Done() }

// Err returns nil while the session lives, then ErrClosed, or the server's
// refusal.
func (g *Gateway) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// User returns who READY said we are.
func (g *Gateway) User() proto.User {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.user
}

// Traffic returns what the gateway WebSocket took since the session was made.
func (g *Gateway) Traffic() Traffic { return g.traffic.total() }

// Connected reports whether the session has a connection now. While it has none, it is
// resumed or followed by another, and calls go on.
func (g *Gateway) Connected() bool { return g.lively.Load() }

// SessionID returns the session's id of the moment; it changes when a session
// could not be resumed.
func (g *Gateway) SessionID() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.session
}

// Send queues a command (op and payload). Commands sent while the connection is
// cut go out after the resume.
func (g *Gateway) Send(op proto.GatewayOpcode, d any) error {
	if g.ctx.Err() != nil {
		return g.Err()
	}
	select {
	case g.out <- command{op, d}:
		return nil
	default:
		return ErrQueueFull
	}
}

type command struct {
	Op any `json:"op"`
	D  any `json:"d"`
}

func (g *Gateway) end(err error) {
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	g.mu.Unlock()
	g.cancel()
}

// deliver calls the handlers.
func (g *Gateway) deliver() {
	defer g.tasks.Done()
	for {
		select {
		case e := <-g.events:
			for _, h := range g.handlers.of(e.name) {
				h.f(e.data)
			}
		case <-g.ctx.Done():
			return
		}
	}
}

// run connects again and again until the session ends for good.
func (g *Gateway) run() {
	defer g.tasks.Done()
	wait := g.c.backoff
	for {
		err := g.connect()
		had := g.lively.Swap(false)
		if g.ctx.Err() != nil {
			return
		}
		if had {
			wait.reset()
		}
		code := closeCode(err)
		if final, ok := gatewayFinal[code]; ok {
			g.end(fmt.Errorf("client: gateway: %s: %w", final, err))
			return
		}
		lost := errors.Is(err, errInvalid) || gatewayForget[code]
		if lost {
			g.forget()
		}
		g.c.log.Info("gateway cut", "error", err, "resume", g.SessionID() != "")
		if !pause(g.ctx, wait.nextGateway(lost)) {
			return
		}
	}
}

// gatewayFinal are the close codes that reconnecting cannot mend.
var gatewayFinal = map[proto.CloseCode]string{
	proto.CloseAuthenticationFailed: "the token is not accepted",
	proto.CloseInvalidShard:         "invalid shard",
	proto.CloseShardingRequired:     "sharding required",
	proto.CloseInvalidAPIVersion:    "API version not spoken",
	proto.CloseInvalidIntents:       "invalid intents",
	proto.CloseDisallowedIntents:    "intents not allowed",
}

// gatewayForget are the close codes after which the session is gone.
var gatewayForget = map[proto.CloseCode]bool{
	proto.CloseNotAuthenticated: true,
	proto.CloseInvalidSeq:       true,
	proto.CloseSessionTimedOut:  true,
}

func (g *Gateway) forget() {
	g.mu.Lock()
	g.session = ""
	g.mu.Unlock()
	g.resumeURL, g.seq = "", 0
}

// connect makes one connection and serves it to its end.
func (g *Gateway) connect() error {
	address := g.resumeURL
	if address == "" {
		var err error
		if address, err = g.c.gatewayURL(g.ctx); err != nil {
			var refused *proto.APIError
			if errors.As(err, &refused) && refused.Status == 401 {
				g.end(err)
			}
			return err
		}
	}
	s, err := dialSocket(g.ctx, g.c, gatewayAddress(address), &g.traffic)
	if err != nil {
		// The address to resume at may belong to a node that is gone for good.
		g.resumeURL = ""
		return err
	}
	g.socket = s
	err = g.serve(s)
	if g.ctx.Err() != nil {
		s.close(1000, "") // ends the session: nothing is to be resumed
	} else {
		s.close(4000, "")
	}
	return err
}

func gatewayAddress(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	q.Set("v", "10")
	q.Set("encoding", "json")
	u.RawQuery = q.Encode()
	return u.String()
}

func (g *Gateway) serve(s *socket) error {
	data, err := s.next(g.ctx)
	if err != nil {
		return err
	}
	var frame proto.GatewayFrame
	var hello proto.HelloData
	if err := json.Unmarshal(data, &frame); err != nil || frame.Op != proto.OpHello {
		return fmt.Errorf("client: gateway: %.64q is no Hello", data)
	}
	if err := json.Unmarshal(frame.D, &hello); err != nil || hello.HeartbeatInterval <= 0 {
		return fmt.Errorf("client: gateway: Hello %.64q has no interval", frame.D)
	}
	if session := g.SessionID(); session != "" {
		err = s.write(g.ctx, command{proto.OpResume, proto.ResumeData{Token: g.c.bareToken(), SessionID: session, Seq: g.seq}})
	} else {
		err = s.write(g.ctx, command{proto.OpIdentify, g.identify()})
	}
	if err != nil {
		return err
	}
	// Commands are held back until the server knows the session again.
	for !g.lively.Load() {
		if data, err = s.next(g.ctx); err != nil {
			return err
		}
		if err = g.frame(g.ctx, data); err != nil {
			return err
		}
	}
	return s.serve(g.ctx, time.Duration(hello.HeartbeatInterval)*time.Millisecond, g.out, nil, g)
}

type identifyData struct {
	Token      string            `json:"token"`
	Properties map[string]string `json:"properties"`
	Shard      *[2]int           `json:"shard,omitempty"`
	Intents    proto.Intents     `json:"intents,omitempty"`
}

func (g *Gateway) identify() identifyData {
	return identifyData{
		Token:      g.c.bareToken(),
		Properties: map[string]string{"os": "linux", "browser": "hubbub-go", "device": "hubbub-go"},
		Shard:      g.options.Shard,
		Intents:    g.options.Intents,
	}
}

func (g *Gateway) heartbeat() any {
	if g.seq == 0 {
		return command{proto.OpHeartbeat, nil}
	}
	return command{proto.OpHeartbeat, g.seq}
}

func (g *Gateway) woken(context.Context) error { return nil }

// frame handles one gateway payload.
func (g *Gateway) frame(ctx context.Context, data []byte) error {
	var f proto.GatewayFrame
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("client: gateway: %w", err)
	}
	switch f.Op {
	case proto.OpDispatch:
		if f.T == nil || f.S == nil {
			return errors.New("client: gateway: dispatch without a name or number")
		}
		return g.dispatch(*f.T, *f.S, f.D)
	case proto.OpHeartbeat:
		return g.socket.write(ctx, g.heartbeat())
	case proto.OpHeartbeatACK:
		g.socket.acked = true
	case proto.OpReconnect:
		return errAsked
	case proto.OpInvalidSession:
		if string(f.D) == "true" {
			return errAsked
		}
		return errInvalid
	}
	return nil
}

// dispatch takes note of what the session itself needs and queues the event.
// The number is kept only once the event is queued, so that a resume replays
// what did not fit.
func (g *Gateway) dispatch(name string, seq uint64, data json.RawMessage) error {
	select {
	case g.events <- dispatch{name, data}:
	default:
		return errBehind
	}
	g.seq = seq
	if note, ok := gatewayNotes[name]; ok {
		if err := note(g, data); err != nil {
			return fmt.Errorf("client: gateway: %s: %w", name, err)
		}
	}
	return nil
}

var gatewayNotes = map[string]func(*Gateway, json.RawMessage) error{
	"READY":               (*Gateway).noteReady,
	"RESUMED":             func(g *Gateway, _ json.RawMessage) error { g.lively.Store(true); return nil },
	"VOICE_STATE_UPDATE":  (*Gateway).noteVoiceState,
	"VOICE_SERVER_UPDATE": (*Gateway).noteVoiceServer,
}

func (g *Gateway) noteReady(data json.RawMessage) error {
	var r proto.ReadyData
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	g.resumeURL = r.ResumeGatewayURL
	g.lively.Store(true)
	g.mu.Lock()
	g.user, g.session = r.User, r.SessionID
	voices := slices.Collect(maps.Values(g.voices))
	g.mu.Unlock()
	select {
	case <-g.ready:
		// The voice states went with the old session.
		for _, v := range voices {
			v.rejoin()
		}
	default:
		close(g.ready)
	}
	return nil
}

func (g *Gateway) noteVoiceState(data json.RawMessage) error {
	var s proto.VoiceState
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	g.mu.Lock()
	v, own := g.voices[s.GuildID], s.UserID == g.user.ID
	ours := s.SessionID == g.session
	g.mu.Unlock()
	if v != nil && own {
		v.stateUpdate(s, ours)
	}
	return nil
}

func (g *Gateway) noteVoiceServer(data json.RawMessage) error {
	var s proto.VoiceServerUpdateData
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	g.mu.Lock()
	v := g.voices[s.GuildID]
	g.mu.Unlock()
	if v != nil {
		v.serverUpdate(s)
	}
	return nil
}
