package media

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hubbub.dev/hubbub/internal/serve/run"
)

var (
	errStuck  = errors.New("media: the child does not move")
	errLayout = errors.New("media: the other binary's shared memory has another form")
)

// upgrade asks for a child of another binary in place of the one that serves.
type upgrade struct {
	path string
	done chan error
}

// Upgrade starts a child of the binary at path, and has it go on where the one that
// serves ends: the sockets keep what comes in between. It returns when the new child
// takes over, and with an error if the old one stays. Handshakes that are under way
// then have to be begun anew by their clients.
func (s *Supervisor) Upgrade(ctx context.Context, path string) error {
	u := upgrade{path: path, done: make(chan error, 1)}
	select {
	case s.upgrades <- u:
	case <-s.done:
		return errors.New("media: closed")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// service is what a supervisor does while one child lives.
type service struct {
	*Supervisor
	*life
	hushAt time.Time // when to end the speaking of those who were not heard again
	batch  []directive

	// asked is what the next child is for, and next that child until it is ready to
	// begin; nil while there is none.
	asked *upgrade
	next  *life

	early  *resting     // asked for before the child served
	asleep chan<- error // of who waits for the child's rest
	rested bool         // the child says nothing
}

// serve has a child serve until it ends, or until the next one may begin, which it
// returns then: with the child's end waited for.
func (s *Supervisor) serve(ctx context.Context, l *life) (next *life, err error) {
	v := &service{Supervisor: s, life: l}
	defer v.abandon(&next)
	switch {
	case l.begun: // by the program before in this process
		v.pid.Store(int64(l.process.PID()))
		err = v.speak()
	case l.hello:
		err = v.commence()
	}
	if err != nil {
		return nil, err
	}
	look := run.NewTicker(lookEvery)
	defer look.Stop()
	for {
		var nextInputs <-chan frame
		var nextEnded <-chan struct{}
		if v.next != nil {
			nextInputs, nextEnded = v.next.inputs.Receive(), v.next.ended
		}
		select {
		case d := <-s.commands.Receive():
			err = v.pass(d)
		case f := <-l.inputs.Receive():
			err = v.hear(&f)
		case <-l.ended:
			v.drain()
			return nil, nil
		case <-look.C:
			err = v.look()
		case u := <-s.upgrades:
			v.prepare(u)
		case r := <-s.rests:
			err = v.rest(r)
		case w := <-s.wills:
			err = v.bequeath(w)
		case f := <-nextInputs:
			if over, err := v.handOver(&f); over || err != nil {
				next = v.next
				return next, err
			}
		case <-nextEnded:
			v.refuse(errors.New("media: the new child ended"))
		case <-s.closing:
			return nil, v.stop()
		case <-ctx.Done():
			return nil, v.stop()
		}
		if err != nil {
			return nil, err
		}
	}
}

// abandon ends a child that was to follow and does not.
func (v *service) abandon(next **life) {
	if v.next != nil && v.next != *next {
		v.refuse(errors.New("media: the child ended meanwhile"))
	}
}

// commence tells a child that has said hello to begin.
func (v *service) commence() error {
	if err := v.begin(v.life); err != nil {
		return err
	}
	v.pid.Store(int64(v.process.PID()))
	return nil
}

// pass notes a command and those that wait behind it, and tells the child.
func (v *service) pass(d directive) error {
	v.batch = v.batch[:0]
	for {
		v.table.apply(&d)
		v.batch = append(v.batch, d)
		if len(v.batch) == directiveBatch {
			break
		}
		select {
		case d = <-v.commands.Receive():
			continue
		default:
		}
		break
	}
	if !v.begun {
		return nil
	}
	if err := v.order(v.batch); err != nil {
		return err
	}
	return v.flush()
}

// hear does what the child says.
func (v *service) hear(f *frame) error {
	switch {
	case f.Hello != nil && !v.hello:
		v.hello = true
		if f.Hello.Layout != layout {
			return errLayout
		}
		return v.commence()
	case f.Ready && !v.ready:
		v.ready = true
		v.hushAt = time.Now().Add(hushAfter)
		v.cfg.Log.Info("the media process serves", "pid", v.process.PID(), "after", time.Since(v.since).Round(time.Millisecond))
		if r := v.early; r != nil {
			v.early = nil
			return v.rest(*r)
		}
	case f.Resting && v.asleep != nil:
		v.asleep <- nil
		v.asleep, v.rested = nil, true
	case f.Event != nil:
		if v.table.event(v.number, f.Event) {
			v.sink(f.Event.Worker, f.Event.Event)
		}
	}
	return nil
}

// drain hears what an ended child has said last.
func (v *service) drain() {
	for v.inputs.Len() > 0 {
		f := <-v.inputs.Receive()
		if f.Event != nil {
			_ = v.hear(&f)
		}
	}
}

// look finds children that are stuck, and those who do not speak any more.
func (v *service) look() error {
	if v.next != nil && time.Since(v.next.since) > startPatience {
		v.refuse(errStuck)
	}
	switch {
	case !v.ready && time.Since(v.since) > startPatience:
		return errStuck
	case !v.ready:
		return nil
	case !v.moved(v.memories):
		return errStuck
	}
	if !v.hushAt.IsZero() && time.Now().After(v.hushAt) {
		v.hushAt = time.Time{}
		for _, ev := range v.table.hush(v.number) {
			v.sink(ev.Worker, ev.Event)
		}
	}
	return nil
}

// prepare starts the child that is to follow.
func (v *service) prepare(u upgrade) {
	if v.next != nil || !v.ready {
		u.done <- errors.New("media: an upgrade is under way, or the child has only begun")
		return
	}
	next, err := v.start(u.path)
	if err != nil {
		u.done <- err
		return
	}
	v.asked, v.next = &u, next
}

// refuse gives the child that was to follow up.
func (v *service) refuse(why error) {
	err := errors.Join(why, v.next.bury(0))
	v.asked.done <- err
	v.asked, v.next = nil, nil
	v.cfg.Log.Error("the media process is not replaced", "error", err)
}

// handOver ends this child for the one that is to follow, once that has said hello. It
// reports whether it did.
func (v *service) handOver(f *frame) (bool, error) {
	if f.Hello == nil {
		return false, nil
	}
	if f.Hello.Layout != layout {
		v.refuse(errLayout)
		return false, nil
	}
	v.next.hello = true
	err := v.stop()
	v.drain()
	if bury := v.bury(lastPatience); bury != nil {
		// It was slow and is gone all the same: its successor begins as after a crash.
		v.cfg.Log.Warn("the replaced media process did not end well", "error", errors.Join(err, bury))
	}
	v.command.Path = v.asked.path
	v.cfg.Log.Info("the media process is replaced", "version", f.Hello.Version)
	v.asked.done <- nil
	return true, nil
}

// stop tells the child to end after the turn that it is in, and waits until it has.
func (v *service) stop() error {
	if err := v.say(frame{Stop: true}); err != nil {
		return err
	}
	if err := v.flush(); err != nil {
		return err
	}
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	for {
		select {
		case <-v.ended:
			return nil
		case d := <-v.commands.Receive():
			v.table.apply(&d)
		case f := <-v.inputs.Receive():
			_ = v.hear(&f)
		case <-timer.C:
			return fmt.Errorf("%w, told to end", errStuck)
		}
	}
}
