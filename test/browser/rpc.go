package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/coder/websocket"
)

// rpc is the client of a browser's remote protocol. The Chrome DevTools Protocol
// and WebDriver BiDi frame commands, answers and events alike.
type rpc struct {
	conn   *websocket.Conn
	events func(method string, params json.RawMessage)
	task   sync.WaitGroup

	mu      sync.Mutex
	last    int
	waiting map[int]chan message
	err     error
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
	Message   string          `json:"message,omitempty"` // BiDi's text of an error
}

// dialRPC connects; events is called on the reading goroutine.
func dialRPC(ctx context.Context, url string, events func(string, json.RawMessage)) (*rpc, error) {
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(64 << 20)
	r := &rpc{conn: conn, events: events, waiting: map[int]chan message{}}
	r.task.Go(r.read)
	return r, nil
}

func (r *rpc) close() {
	_ = r.conn.CloseNow()
	r.task.Wait()
}

func (r *rpc) read() {
	for {
		_, data, err := r.conn.Read(context.Background())
		if err != nil {
			r.fail(err)
			return
		}
		var m struct {
			message
			Params json.RawMessage `json:"params"`
		}
		if err := json.Unmarshal(data, &m); err != nil {
			r.fail(fmt.Errorf("browser: %w in %.200s", err, data))
			return
		}
		if m.ID == 0 {
			r.events(m.Method, m.Params)
			continue
		}
		r.mu.Lock()
		answer := r.waiting[m.ID]
		delete(r.waiting, m.ID)
		r.mu.Unlock()
		if answer != nil {
			answer <- m.message
		}
	}
}

func (r *rpc) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	for id, answer := range r.waiting {
		close(answer)
		delete(r.waiting, id)
	}
}

// call runs a command and decodes its result into answer, unless that is nil.
func (r *rpc) call(ctx context.Context, session, method string, params, answer any) error {
	r.mu.Lock()
	if r.err != nil {
		r.mu.Unlock()
		return r.err
	}
	r.last++
	id := r.last
	got := make(chan message, 1)
	r.waiting[id] = got
	r.mu.Unlock()
	data, err := json.Marshal(message{ID: id, Method: method, SessionID: session, Params: params})
	if err != nil {
		return err
	}
	if err := r.conn.Write(ctx, websocket.MessageText, data); err != nil {
		return err
	}
	select {
	case m, ok := <-got:
		switch {
		case !ok:
			return errors.New("browser: it went away")
		case m.Error != nil:
			return fmt.Errorf("browser: %s: %s %s", method, m.Error, m.Message)
		case answer == nil:
			return nil
		}
		return json.Unmarshal(m.Result, answer)
	case <-ctx.Done():
		return fmt.Errorf("browser: %s: %w", method, ctx.Err())
	}
}
