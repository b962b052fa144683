package ops

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub.dev/hubbub/proto"
	"hubbub.dev/hubbub/test/harness"
)

// person is a guest who speaks every protocol by hand from an address of its own,
// and keeps all that it is sent.
type person struct {
	t     *testing.T
	s     *server
	addr  netip.Addr // to connect from
	base  string     // URL that the person knows the server by
	name  string
	id    proto.Snowflake
	token string
	http  *http.Client
	seen  harness.Transcript // REST, WebSockets, and datagrams: decrypted where they are media

	gateway, voice *wire
	welcome        proto.ReadyData             // from the gateway
	place          proto.VoiceServerUpdateData // from the gateway
	ready          proto.VoiceReady            // from the voice gateway
	tasks          sync.WaitGroup
}

// newPerson enters by the server's invite link, from an address.
func newPerson(t *testing.T, s *server, addr, name string) *person {
	t.Helper()
	return newPersonAt(t, s, s.url(), addr, name)
}

// newPersonAt makes a person who knows the server by base, a URL without path.
func newPersonAt(t *testing.T, s *server, base, addr, name string) *person {
	t.Helper()
	p := &person{t: t, s: s, addr: netip.MustParseAddr(addr), base: base, name: name}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: p.addr.AsSlice()}, Timeout: patience}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: s.roots()}}
	p.http = &http.Client{Transport: transport}
	t.Cleanup(func() {
		for _, w := range []*wire{p.gateway, p.voice} {
			if w != nil {
				_ = w.conn.CloseNow()
			}
		}
		p.tasks.Wait()
		transport.CloseIdleConnections()
	})
	var made struct {
		Token  string          `json:"token"`
		UserID proto.Snowflake `json:"user_id"`
	}
	p.rest(http.MethodPost, "/auth/register", map[string]string{"global_name": name, "invite": s.link("Invite")}, &made)
	p.id, p.token = made.UserID, made.Token
	return p
}

// rest makes a call, which must succeed, and keeps the whole response.
func (p *person) rest(method, path string, body, answer any) {
	p.t.Helper()
	payload, err := json.Marshal(body)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.base+"/api/v10"+path, bytes.NewReader(payload))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if p.token != "" {
		req.Header.Set("Authorization", p.token)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		p.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, data, err)
	}
	_ = resp.Header.Write(&p.seen)
	_, _ = p.seen.Write(data)
	if answer != nil {
		if err := json.Unmarshal(data, answer); err != nil {
			p.t.Fatal(err)
		}
	}
}

// frame is a payload of either gateway.
type frame struct {
	Op int             `json:"op"`
	D  json.RawMessage `json:"d"`
	T  string          `json:"t"`
}

// wire is one WebSocket, which somebody reads all the time.
type wire struct {
	t      *testing.T
	conn   *websocket.Conn
	frames chan frame
	done   chan struct{}
	err    error // why it ended, once done is closed
}

func (p *person) dial(path string) *wire {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(p.base, "http", "ws", 1)+path, &websocket.DialOptions{HTTPClient: p.http})
	if err != nil {
		p.t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	w := &wire{t: p.t, conn: conn, frames: make(chan frame, 1024), done: make(chan struct{})}
	p.t.Cleanup(func() { _ = conn.CloseNow(); <-w.done })
	p.tasks.Go(func() {
		defer close(w.done)
		for {
			_, data, err := conn.Read(context.Background())
			if err != nil {
				w.err = err
				return
			}
			_, _ = p.seen.Write(data)
			var f frame
			if err := json.Unmarshal(data, &f); err != nil {
				w.err = err
				return
			}
			w.frames <- f
		}
	})
	return w
}

func (w *wire) send(op int, d any) {
	w.t.Helper()
	data, err := json.Marshal(map[string]any{"op": op, "d": d})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.conn.Write(ctx, websocket.MessageText, data); err != nil {
		w.t.Fatal(err)
	}
}

// await returns the next payload of that opcode and event, passing over others.
func (w *wire) await(op int, event string) frame {
	w.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case f := <-w.frames:
			if f.Op == op && f.T == event {
				return f
			}
		case <-w.done:
			w.t.Fatalf("the connection ended before op %d %s: %v", op, event, w.err)
		case <-limit:
			w.t.Fatalf("no op %d %s", op, event)
		}
	}
}

// closed waits for the end and returns the server's close code.
func (w *wire) closed() proto.CloseCode {
	w.t.Helper()
	select {
	case <-w.done:
	case <-time.After(patience):
		w.t.Fatal("the connection is not closed")
	}
	return proto.CloseCode(websocket.CloseStatus(w.err))
}

func decode(t *testing.T, d json.RawMessage, v any) {
	t.Helper()
	if err := json.Unmarshal(d, v); err != nil {
		t.Fatalf("%v in %s", err, d)
	}
}

// identify begins a gateway session.
func (p *person) identify() {
	p.t.Helper()
	p.gateway = p.dial("/gateway?v=10&encoding=json")
	p.gateway.await(int(proto.OpHello), "")
	p.gateway.send(int(proto.OpIdentify), map[string]any{"token": p.token, "properties": map[string]string{}})
	decode(p.t, p.gateway.await(int(proto.OpDispatch), "READY").D, &p.welcome)
	p.gateway.await(int(proto.OpDispatch), "GUILD_CREATE")
}

// join goes as far as the voice gateway's Ready.
func (p *person) join(channel proto.Snowflake) {
	p.t.Helper()
	p.gateway.send(int(proto.OpVoiceStateUpdate), proto.VoiceStateUpdateData{GuildID: p.s.guild, ChannelID: &channel})
	decode(p.t, p.gateway.await(int(proto.OpDispatch), "VOICE_SERVER_UPDATE").D, &p.place)
	p.voice = p.dial("/?v=8")
	p.voice.await(int(proto.VoiceOpHello), "")
	p.voice.send(int(proto.VoiceOpIdentify), proto.VoiceIdentify{
		ServerID: p.s.guild, ChannelID: channel, UserID: p.id, SessionID: p.welcome.SessionID, Token: p.place.Token,
	})
	decode(p.t, p.voice.await(int(proto.VoiceOpReady), "").D, &p.ready)
}
