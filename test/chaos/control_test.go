//go:build linux

package chaos

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"hubbub.dev/hubbub/client"
	"hubbub.dev/hubbub/proto"
)

// control is a stream of numbered packets to a process of its own that sends each of
// them back, and does nothing else: what it misses, the machine is too busy for.
type control struct {
	w    *world
	ears *ears
}

// controlUser stands for the speaker of the control stream.
const controlUser proto.Snowflake = 1

// controlled starts it, until the test ends.
func (w *world) controlled() *control {
	w.t.Helper()
	at := w.net.host("control", nodeNet)
	address := net.JoinHostPort(at.ip, strconv.Itoa(w.net.port(at, httpPort)))
	p := w.self("control", at, echoEnv+"="+address)
	w.t.Cleanup(p.Kill)
	w.startAgain(p)
	conn, err := net.Dial("udp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &control{w: w, ears: newEars()}
	ctx, cancel := context.WithCancel(w.t.Context())
	var tasks sync.WaitGroup
	tasks.Go(func() { c.say(ctx, conn) })
	tasks.Go(func() { c.listen(conn) })
	w.t.Cleanup(func() { cancel(); _ = conn.Close(); tasks.Wait() })
	return c
}

func (c *control) say(ctx context.Context, to net.Conn) {
	said := mouth{began: c.w.began}
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		frame, _ := said.NextFrame() // never fails
		_, _ = to.Write(frame)       // a process that is not there yet
	}
}

func (c *control) listen(from net.Conn) {
	buf := make([]byte, 2*frameSize)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		c.ears.hear(&client.Packet{UserID: controlUser, Opus: buf[:n]}, c.w.now())
	}
}

// end returns what was missed since the last begin.
func (c *control) end() heard { return c.ears.end(c.w.now())[controlUser] }

// runEcho is the process that sends back.
func runEcho(address string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	fmt.Println("serves")
	buf := make([]byte, 2*frameSize)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(buf[:n], from); err != nil {
			return err
		}
	}
}
