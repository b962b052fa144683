package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hubbub.dev/hubbub/internal/core/signalling"
	"hubbub.dev/hubbub/internal/edge/child"
	"hubbub.dev/hubbub/internal/serve/gateway"
	"hubbub.dev/hubbub/internal/serve/media"
)

const (
	// SuccessionForm is to be raised with each change of what one program leaves to the
	// next: between those that differ in it, nothing is handed over.
	SuccessionForm = 1
	// successionVariable, no setting and named like none, has the media child's process id and the descriptors: what is
	// known, the listener, the child's control connection and memory, the UDP sockets.
	successionVariable = "SUCCESSION_OF_HUBBUB"
	// maxLegacy bounds what is known, in bytes.
	maxLegacy = 512 << 20
	// trialWithin is how long a new binary may take to say that it runs.
	trialWithin = 10 * time.Second
	// answerWithin is how long HTTP requests may go on, and partWithin how long WebSockets
	// may take to end, before the process goes on as another program.
	answerWithin = time.Second
	partWithin   = time.Second
)

// legacy is what one program knows and leaves to the next.
type legacy struct {
	Form    int                 `cbor:"1,keyasint"`
	Media   media.Estate        `cbor:"2,keyasint"`
	Voice   []signalling.State  `cbor:"3,keyasint"`
	Gateway []gateway.Suspended `cbor:"4,keyasint"`
}

var legacyDecoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{MaxArrayElements: 1 << 24, MaxMapPairs: 1 << 20, MaxNestedLevels: 24}.DecMode()
	if err != nil {
		panic(err) // a mistake in the options above
	}
	return mode
}()

func decodeLegacy(b []byte) (*legacy, error) {
	var l legacy
	if err := legacyDecoding.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("succession: %w", err)
	}
	if l.Form != SuccessionForm {
		return nil, fmt.Errorf("succession: it has form %d, not %d", l.Form, SuccessionForm)
	}
	return &l, nil
}

// Succession is what the program before in this process left to this one.
type Succession struct {
	legacy   legacy
	pid      int // of the media child
	listener *os.File
	handed   media.Handed
}

// Succeed takes what the program before in this process left, which is nil where there was
// none. What is unreadable is let go of with an error in the log: its calls come back by
// themselves, as after a crash.
func Succeed(log *slog.Logger) *Succession {
	said, ok := os.LookupEnv(successionVariable)
	if !ok {
		return nil
	}
	_ = os.Unsetenv(successionVariable) // it is not for children
	s, err := succeed(said)
	if err != nil {
		log.Error("nothing is taken over of the program before: calls are cut and come back", "err", err)
		return nil
	}
	return s
}

func succeed(said string) (*Succession, error) {
	s := new(Succession)
	if err := s.take(said); err != nil {
		s.letGo()
		return nil, err
	}
	return s, nil
}

func (s *Succession) take(said string) (err error) {
	fields := strings.Split(said, ":")
	if len(fields) < 6 {
		return errors.New("succession: no descriptors")
	}
	if s.pid, err = strconv.Atoi(fields[0]); err != nil {
		return fmt.Errorf("succession: %w", err)
	}
	var files []*os.File
	for _, field := range fields[1:] {
		fd, err := strconv.Atoi(field)
		if err == nil && fd <= 2 {
			err = syscall.EBADF
		}
		var f *os.File
		if err == nil {
			f, err = child.Inherit(fd)
		}
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return fmt.Errorf("succession: %w", err)
		}
		files = append(files, f)
	}
	s.listener = files[1]
	s.handed = media.Handed{Control: files[2], Memory: files[3], Sockets: files[4:]}
	known := files[0]
	defer func() { _ = known.Close() }()
	b, err := io.ReadAll(io.LimitReader(io.NewSectionReader(known, 0, maxLegacy), maxLegacy))
	if err != nil {
		return fmt.Errorf("succession: %w", err)
	}
	l, err := decodeLegacy(b)
	if err != nil {
		return err
	}
	if l.Media.PID != s.pid {
		return errors.New("succession: it is of another child")
	}
	s.legacy = *l
	return nil
}

// letGo closes what was not taken over, and ends the media child, which frees its ports.
func (s *Succession) letGo() {
	if s.listener != nil {
		_ = s.listener.Close()
	}
	s.handed.Close()
	child.End(s.pid)
}

// listen returns the listener that is handed over.
func (s *Succession) listen() (net.Listener, error) {
	f := s.listener
	s.listener = nil
	defer func() { _ = f.Close() }()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, errors.New("succession: the listener is none of TCP")
	}
	return quietListener{tcp}, nil
}

// quietListener has no keepalives, as openPort's.
type quietListener struct{ *net.TCPListener }

// Accept implements net.Listener.
func (l quietListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAlive(false)
	return c, nil
}

// succeeds reports whether this node can go on as another program: no other node can take
// its calls, and its media workers are in a child.
func (n *Node) succeeds() bool {
	_, ok := n.media.(*media.Supervisor)
	return ok && n.cfg.alone() && n.voice != nil && n.gateway != nil && n.guilds != nil
}

// try has a binary say that it runs and takes what this one would leave.
func try(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, trialWithin)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "succeeds", strconv.Itoa(SuccessionForm)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the new binary %s does not run, or can not go on from here: %w: %s", path, err, out[:min(len(out), 200)])
	}
	return nil
}

// Upgraded is sent to when Replace is to be called.
func (n *Node) Upgraded() <-chan struct{} { return n.upgraded }

// Upgrade has the media workers go on in a process of the binary that is now where this
// one was started from. Nobody in a call notices. Where no other node could take the
// calls meanwhile, Upgraded says then that it is the turn of this process.
func (n *Node) Upgrade(ctx context.Context) error {
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	if n.succeeds() {
		if err := try(ctx, path); err != nil {
			return err
		}
	}
	if err := n.upgradeMedia(ctx, path); err != nil {
		return err
	}
	if n.succeeds() {
		select {
		case n.upgraded <- struct{}{}:
		default: // it is to be
		}
	}
	return nil
}

// Replace has this process go on as the program that is now where it was started from:
// calls go on meanwhile, and clients resume. It returns only when that failed: the node
// goes on, or if it was too late for that, it is Done.
func (n *Node) Replace(ctx context.Context) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	s, ok := n.media.(*media.Supervisor)
	if !ok {
		return errors.New("the media workers have no process of their own (--media-process)")
	}
	dup, ok := n.listener.(syscall.Conn)
	if !ok {
		return errors.New("the listener can not be handed over")
	}
	listener, err := child.Duplicate(dup)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	if err := s.Rest(ctx); err != nil {
		return errors.Join(err, s.Speak(context.WithoutCancel(ctx)))
	}
	n.log.Info("going on as the new binary: calls go on, clients resume", "path", path)
	// From here on there is no way back.
	err = n.leaveTo(ctx, path, s, listener)
	n.log.Error("the new binary does not go on: this server ends", "err", err)
	n.group.Stop()
	return err
}

// leaveTo ends the roles and becomes the next program.
func (n *Node) leaveTo(ctx context.Context, path string, s *media.Supervisor, listener *os.File) (err error) {
	n.closing.Store(true)
	answer, cancel := context.WithTimeout(ctx, answerWithin)
	_ = n.server.Shutdown(answer)
	cancel()
	part, cancel := context.WithTimeout(ctx, partWithin)
	defer cancel()
	l := legacy{Form: SuccessionForm}
	if l.Voice, err = n.voice.Suspend(part); err != nil {
		return err
	}
	if l.Gateway, err = n.gateway.Suspend(part); err != nil {
		return err
	}
	n.guilds.Close(part)
	return s.Bequeath(ctx, func(e *media.Estate, h media.Handed) error {
		l.Media = *e
		known, err := l.write()
		if err != nil {
			return err
		}
		numbers := []int{e.PID}
		for _, f := range append([]*os.File{known, listener, h.Control, h.Memory}, h.Sockets...) {
			numbers = append(numbers, int(f.Fd()))
		}
		said := strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ":"), "[]")
		return child.Replace(path, os.Args, append(os.Environ(), successionVariable+"="+said), numbers[1:])
	})
}

// write puts what is known where the next program finds it.
func (l *legacy) write() (*os.File, error) {
	b, err := cbor.Marshal(l)
	if err != nil {
		return nil, err
	}
	if len(b) > maxLegacy {
		return nil, fmt.Errorf("succession: %d bytes are too many", len(b))
	}
	m, err := child.NewMemory("hubbub succession", len(b))
	if err != nil {
		return nil, err
	}
	copy(m.Bytes, b)
	return m.File(), nil
}
