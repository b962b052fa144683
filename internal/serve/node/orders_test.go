package node

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Any node passes an order on to any other, and tells what came of it.
func TestOrdersReachEveryNode(t *testing.T) {
	front, voice := both(t)
	ask := func(by *Node, name, token, body string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "/admin/v1/"+name, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		by.routes().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	named := func(node string) string {
		body, _ := json.Marshal(map[string]string{"node": node})
		return string(body)
	}
	for what, c := range map[string]struct {
		by         *Node
		name, body string
		want       int
		says       string
	}{
		"no JSON":               {front, "drain", "{", 400, "invalid JSON"},
		"no name of a node":     {front, "drain", named("a.b"), 404, "no such node"},
		"nobody's name":         {front, "upgrade", named("nobody"), 404, "no such node"},
		"no process of its own": {voice, "upgrade", named(""), 409, "--media-process"},
		"the same, passed on":   {front, "upgrade", named(voice.Name()), 409, "--media-process"},
		"no media at all":       {front, "upgrade", named(front.Name()), 409, "--media-process"},
		"too much":              {front, "drain", `{"node":"` + strings.Repeat("x", maxOrderBody) + `"}`, 400, ""},
	} {
		if code, answer := ask(c.by, c.name, c.by.adminToken, c.body); code != c.want || !strings.Contains(answer, c.says) {
			t.Errorf("%s: %d %s", what, code, answer)
		}
	}
	if code, _ := ask(front, "drain", "wrong", named("")); code != 401 {
		t.Errorf("a wrong token: %d", code)
	}
	select {
	case <-voice.Asked():
		t.Fatal("it was not asked yet")
	default:
	}
	if code, answer := ask(front, "drain", front.adminToken, named(voice.Name())); code != 202 || !strings.Contains(answer, voice.Name()) {
		t.Errorf("%d %s", code, answer)
	}
	<-voice.Asked()
}
