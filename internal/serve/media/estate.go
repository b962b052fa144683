package media

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"hubbub.dev/hubbub/internal/core/sfu"
	"hubbub.dev/hubbub/internal/edge/child"
	"hubbub.dev/hubbub/internal/edge/udp"
)

// restPatience is how long a child may take to serve, and to say its last before it rests.
const restPatience = 5 * time.Second

var errEstate = errors.New("media: what is left of the workers is unreadable")

// Estate is what a supervisor knows of the child that serves, for the next program of
// this process to supervise it.
type Estate struct {
	Layout      uint64      `cbor:"1,keyasint"`
	PID         int         `cbor:"2,keyasint"`
	Lives       int         `cbor:"3,keyasint"`
	Last        uint64      `cbor:"4,keyasint"`
	Certificate []byte      `cbor:"5,keyasint"` // in DER
	Key         []byte      `cbor:"6,keyasint"` // in PKCS #8
	Entries     []willed    `cbor:"7,keyasint,omitempty"`
	Ends        []directive `cbor:"8,keyasint,omitempty"`
}

// willed is an entry of the table.
type willed struct {
	Worker          int           `cbor:"1,keyasint"`
	Number          uint64        `cbor:"2,keyasint"`
	Add             *sfu.AddPeer  `cbor:"3,keyasint,omitempty"`
	Relay           *sfu.AddRelay `cbor:"4,keyasint,omitempty"`
	Transport       sfu.Command   `cbor:"5,keyasint"`
	TransportNumber uint64        `cbor:"6,keyasint"`
	Connected       bool          `cbor:"7,keyasint,omitempty"`
	Lost            bool          `cbor:"8,keyasint,omitempty"`
	OnAir           bool          `cbor:"9,keyasint,omitempty"`
	Heard           int           `cbor:"10,keyasint,omitempty"`
}

// Handed are the descriptors that go with an Estate.
type Handed struct {
	Control, Memory *os.File
	Sockets         []*os.File
}

// Close closes what was not taken over.
func (h *Handed) Close() {
	for _, f := range append(h.Sockets, h.Control, h.Memory) {
		if f != nil {
			_ = f.Close()
		}
	}
}

// resting asks for the child's rest, or its end.
type resting struct {
	on   bool
	done chan error
}

// Rest has the child say nothing more until Speak: it goes on with all that it was told.
// What it has said before was given to the sink when Rest returns nil. It fails when the
// child does not serve, or is to be replaced.
func (s *Supervisor) Rest(ctx context.Context) error {
	return s.askRest(ctx, true)
}

// Speak ends a rest.
func (s *Supervisor) Speak(ctx context.Context) error { return s.askRest(ctx, false) }

func (s *Supervisor) askRest(ctx context.Context, on bool) error {
	ctx, cancel := context.WithTimeout(ctx, restPatience)
	defer cancel()
	r := resting{on, make(chan error, 1)}
	select {
	case s.rests <- r:
	case <-ctx.Done():
		return fmt.Errorf("media: no child serves: %w", ctx.Err())
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("media: the child does not rest: %w", ctx.Err())
	}
}

// Bequeath calls do with all that the next program needs, on the only thread that may
// replace this one, after Rest. It returns do's error; the supervisor then goes on as it was.
func (s *Supervisor) Bequeath(ctx context.Context, do func(*Estate, Handed) error) error {
	ctx, cancel := context.WithTimeout(ctx, restPatience)
	defer cancel()
	w := will{do, make(chan error, 1)}
	select {
	case s.wills <- w:
	case <-ctx.Done():
		return fmt.Errorf("media: no child serves: %w", ctx.Err())
	}
	return <-w.done
}

type will struct {
	do   func(*Estate, Handed) error
	done chan error
}

// rest passes on what is asked of the child. Its last word answers.
func (v *service) rest(r resting) error {
	switch {
	case v.next != nil:
		r.done <- errors.New("media: an upgrade is under way")
		return nil
	case !v.ready:
		v.early = &r
		return nil
	case !r.on:
		r.done <- nil
		v.rested = false
		return v.speak()
	}
	v.asleep = r.done
	if err := v.say(frame{Rest: true}); err != nil {
		return err
	}
	return v.flush()
}

func (v *service) speak() error {
	if err := v.say(frame{Speak: true}); err != nil {
		return err
	}
	return v.flush()
}

// bequeath leaves everything to the next program.
func (v *service) bequeath(w will) error {
	if !v.rested {
		w.done <- errors.New("media: the child that rested has ended")
		return nil
	}
	for v.commands.Len() > 0 {
		if err := v.pass(<-v.commands.Receive()); err != nil {
			w.done <- err
			return err
		}
	}
	control, ok := v.process.Control.(syscall.Conn)
	if !ok {
		w.done <- errEstate
		return nil
	}
	f, err := child.Duplicate(control)
	if err != nil {
		w.done <- err
		return nil
	}
	defer func() { _ = f.Close() }()
	e := &Estate{
		Layout: layout, PID: v.process.PID(), Lives: v.lives, Last: v.table.last,
		Certificate: v.beginning.Certificate, Key: v.beginning.Key, Entries: v.table.will(), Ends: v.table.ends,
	}
	w.done <- w.do(e, Handed{Control: f, Memory: v.memory.File(), Sockets: v.files})
	return nil
}

// will returns all entries.
func (t *table) will() []willed {
	out := make([]willed, 0, len(t.entries))
	for k, e := range t.entries {
		w := willed{
			Worker: k.worker, Number: e.number, Relay: e.relay, Transport: e.transport, TransportNumber: e.transportNumber,
			Connected: e.connected, Lost: e.lost, OnAir: e.onAir, Heard: e.heard,
		}
		if e.relay == nil {
			add := e.add
			w.Add = &add
		}
		out = append(out, w)
	}
	return out
}

// table makes the table of an estate, which is checked.
func (e *Estate) table(workers int) (*table, error) {
	t := newTable()
	t.last, t.ends = e.Last, e.Ends
	fits := func(worker int, number uint64) bool { return worker >= 0 && worker < workers && number <= e.Last }
	for _, d := range e.Ends {
		if !fits(d.Worker, d.Number) || d.Command.End == nil {
			return nil, errEstate
		}
	}
	if len(e.Ends) > maxEnds {
		return nil, errEstate
	}
	for i := range e.Entries {
		w := &e.Entries[i]
		transported := w.Transport.Native != nil || w.Transport.Browser != nil
		if !fits(w.Worker, w.Number) || w.TransportNumber > e.Last || (w.Add == nil) == (w.Relay == nil) || transported != (w.TransportNumber != 0) {
			return nil, errEstate
		}
		n := &entry{
			number: w.Number, relay: w.Relay, transport: w.Transport, transportNumber: w.TransportNumber,
			connected: w.Connected, lost: w.Lost, onAir: w.OnAir, heard: w.Heard,
		}
		k := entryKey{worker: w.Worker}
		if w.Add != nil {
			n.add, k.peer = *w.Add, w.Add.Peer
		} else {
			k.peer = w.Relay.Peer
		}
		if t.entries[k] != nil {
			return nil, errEstate
		}
		t.entries[k] = n
	}
	return t, nil
}

// TakeOver goes on where the supervisor of the program before in this process ended. It
// owns the descriptors, also when it fails; the child, which ends with its control
// connection, then is to be waited for by the caller.
func TakeOver(cfg Config, command Command, e *Estate, h Handed) (*Supervisor, error) {
	s := newSupervisor(cfg, command)
	if err := s.takeOver(e, h); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

func (s *Supervisor) takeOver(e *Estate, h Handed) (err error) {
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	if e.Layout != layout || e.PID <= 1 || e.Lives < 1 || len(h.Sockets) == 0 {
		return errEstate
	}
	if s.cfg.Workers != 0 && s.cfg.Workers != len(h.Sockets) {
		return fmt.Errorf("media: there are %d workers, not %d", len(h.Sockets), s.cfg.Workers)
	}
	if s.table, err = e.table(len(h.Sockets)); err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(e.Key)
	if err != nil || len(e.Certificate) == 0 {
		return errEstate
	}
	certificate := tls.Certificate{Certificate: [][]byte{e.Certificate}, PrivateKey: key}
	s.fingerprint, s.lives = fingerprintOf(certificate), e.Lives
	for i, f := range h.Sockets {
		socket, err := udp.Keep(f)
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, socket)
		h.Sockets[i] = nil
	}
	memory := h.Memory
	h.Memory = nil
	if s.memory, err = child.OpenMemory(memory); err != nil {
		return err
	}
	control := h.Control
	h.Control = nil
	p, err := child.Adopt(e.PID, control)
	if err != nil {
		return err
	}
	s.heir = &life{process: p}
	if err := s.share(certificate); err != nil {
		return err
	}
	s.heir = s.live(p)
	s.heir.hello, s.heir.begun, s.heir.ready = true, true, true
	return nil
}
