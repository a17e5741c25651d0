// A client and a pusher in the shape of the ancestor's own: gorilla/websocket, structs without
// JSON tags (so the keys are Token and Event), and json.Marshal on the way in.
//
// Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const patience = 10 * time.Second

// origin is where the server is, as http://host:port or https://host:port.
var origin = os.Args[1]

// RegisterMessage is what the ancestor's clients send.
type RegisterMessage struct {
	Token string
	Event string
}

// PushMessage is what the ancestor's pushers post.
type PushMessage struct {
	UserID  string `json:"userId"`
	Event   string
	Message string
}

func main() {
	failed := false
	for _, it := range []struct {
		name string
		run  func() error
	}{
		{"registers and receives", registers},
		{"registers in fragments", fragments},
		{"registers in a binary frame", binary},
		{"receives verbatim", verbatim},
		{"receives in order", order},
		{"a second event on one connection", secondEvent},
		{"a second user on one connection", secondUser},
		{"two connections of one user", twoConnections},
		{"an unknown user", unknownUser},
		{"illegal pushes", illegal},
		{"a ping is answered", ping},
		{"closes cleanly and is forgotten", closes},
	} {
		if err := it.run(); err != nil {
			failed = true
			fmt.Printf("FAILED go: %s: %v\n", it.name, err)
		} else {
			fmt.Printf("ok go: %s\n", it.name)
		}
	}
	if failed {
		os.Exit(1)
	}
}

func registers() error {
	conn, err := listen("go-one", "notify")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := pushTo(1, "go-one", "notify", "hello"); err != nil {
		return err
	}
	return expect(conn, "hello")
}

// A small write buffer makes gorilla send each message as many frames.
func fragments() error {
	dialer := websocket.Dialer{WriteBufferSize: 16}
	conn, _, err := dialer.Dial(socketOrigin()+"/ws", nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := register(conn, "go-fragments", "notify"); err != nil {
		return err
	}
	if err := pushTo(1, "go-fragments", "notify", "whole"); err != nil {
		return err
	}
	return expect(conn, "whole")
}

func binary() error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	message := []byte(`{"TOKEN":"go-binary","event":"notify","more":[1]} and what follows does not count`)
	if err := conn.WriteMessage(websocket.BinaryMessage, message); err != nil {
		return err
	}
	if err := awaitBound(conn, "go-binary", "notify"); err != nil {
		return err
	}
	return nil
}

func verbatim() error {
	conn, err := listen("go-verbatim", "notify")
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, message := range []string{
		" ",
		`{"a": "quoted \" and \\ and / and 1.0"}`,
		"<b>&amp;</b>\u2028\u2029",
		"tab\t, line\r\n, bell\a, nul\x00, delete\x7f",
		"Grüße, 世界, שלום, 👩‍👩‍👧‍👦 🏳️‍🌈",
		strings.Repeat("100 KB é 🚀 ", 100*1024/16),
	} {
		if err := pushTo(1, "go-verbatim", "notify", message); err != nil {
			return err
		}
		if err := expect(conn, message); err != nil {
			return err
		}
	}
	return nil
}

func order() error {
	conn, err := listen("go-order", "notify")
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := 0; i < 100; i++ {
		if err := pushTo(1, "go-order", "notify", fmt.Sprint("message ", i)); err != nil {
			return err
		}
	}
	for i := 0; i < 100; i++ {
		if err := expect(conn, fmt.Sprint("message ", i)); err != nil {
			return err
		}
	}
	return nil
}

// The ancestor drops the second event of a connection without a word.
func secondEvent() error {
	conn, err := listen("go-events", "first")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := register(conn, "go-events", "second"); err != nil {
		return err
	}
	for _, event := range []string{"first", "second"} {
		if err := pushTo(1, "go-events", event, "by "+event); err != nil {
			return err
		}
		if err := expect(conn, "by "+event); err != nil {
			return err
		}
	}
	return pushTo(0, "go-events", "third", "to nobody")
}

// The ancestor strands the first user of a connection when a second one registers on it.
func secondUser() error {
	conn, err := listen("go-first-user", "notify")
	if err != nil {
		return err
	}
	if err := register(conn, "go-second-user", "notify"); err != nil {
		return err
	}
	for _, user := range []string{"go-first-user", "go-second-user"} {
		if err := pushTo(1, user, "notify", "to "+user); err != nil {
			return err
		}
		if err := expect(conn, "to "+user); err != nil {
			return err
		}
	}
	conn.Close()
	for _, user := range []string{"go-first-user", "go-second-user"} {
		if err := awaitCount(0, user, "notify"); err != nil {
			return err
		}
	}
	return nil
}

func twoConnections() error {
	var conns []*websocket.Conn
	for i := 0; i < 2; i++ {
		conn, err := dial()
		if err != nil {
			return err
		}
		defer conn.Close()
		message := RegisterMessage{Token: "go-two", Event: "notify"}
		if err := conn.WriteJSON(message); err != nil {
			return err
		}
		if err := awaitCount(i+1, "go-two", "notify"); err != nil {
			return err
		}
		conns = append(conns, conn)
	}
	if err := pushTo(2, "go-two", "notify", "last"); err != nil {
		return err
	}
	for _, conn := range conns {
		if err := expect(conn, "last"); err != nil {
			return err
		}
	}
	return nil
}

func unknownUser() error {
	return pushTo(0, "go-nobody", "notify", "hello")
}

func illegal() error {
	for _, body := range []string{"", "{", "null", "[]", `{"userId":"a","event":"b"}`, `{"userId":"","event":"b","message":"c"}`} {
		status, answer, err := post(body)
		if err != nil {
			return err
		}
		if status != 400 || answer != "request data illegal" {
			return fmt.Errorf("%q got %d %q", body, status, answer)
		}
	}
	response, err := http.Get(origin + "/push")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != 405 {
		return fmt.Errorf("GET got %d", response.StatusCode)
	}
	return nil
}

func ping() error {
	conn, err := listen("go-ping", "notify")
	if err != nil {
		return err
	}
	defer conn.Close()
	got := ""
	conn.SetPongHandler(func(data string) error {
		got = data
		return nil
	})
	if err := conn.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(patience)); err != nil {
		return err
	}
	// A message is read after the pong that came before it.
	if err := pushTo(1, "go-ping", "notify", "after the pong"); err != nil {
		return err
	}
	for start := time.Now(); got == "" && time.Since(start) < patience; {
		if err := expect(conn, "after the pong"); err != nil {
			return err
		}
		if got == "" {
			if err := pushTo(1, "go-ping", "notify", "after the pong"); err != nil {
				return err
			}
		}
	}
	if got != "are you there" {
		return fmt.Errorf("the pong says %q", got)
	}
	return nil
}

func closes() error {
	conn, err := listen("go-close", "notify")
	if err != nil {
		return err
	}
	defer conn.Close()
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye")
	if err := conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(patience)); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	_, _, err = conn.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		return fmt.Errorf("expected Close 1000, got %v", err)
	}
	return awaitCount(0, "go-close", "notify")
}

func dial() (*websocket.Conn, error) {
	conn, _, err := websocket.DefaultDialer.Dial(socketOrigin()+"/ws", nil)
	return conn, err
}

func socketOrigin() string {
	return "ws" + strings.TrimPrefix(origin, "http")
}

// Connects, registers and waits until that has taken effect.
func listen(user, event string) (*websocket.Conn, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	if err := register(conn, user, event); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// The token is the user where no authenticator is set.
func register(conn *websocket.Conn, user, event string) error {
	if err := conn.WriteJSON(RegisterMessage{Token: user, Event: event}); err != nil {
		return err
	}
	return awaitBound(conn, user, event)
}

// A registration has no answer, so a push must tell.
func awaitBound(conn *websocket.Conn, user, event string) error {
	if err := awaitCount(1, user, event); err != nil {
		return err
	}
	return expect(conn, "are you bound")
}

func awaitCount(count int, user, event string) error {
	want := fmt.Sprintf("message sent to %d clients", count)
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		answer, err := push(user, event, "are you bound")
		if err != nil {
			return err
		}
		if answer == want {
			return nil
		}
		if time.Since(start) > patience {
			return fmt.Errorf("%s of %s: still %q, expected %q", event, user, answer, want)
		}
	}
}

// Reads past the questions whether it is bound, unless that is what is expected.
func expect(conn *websocket.Conn, message string) error {
	conn.SetReadDeadline(time.Now().Add(patience))
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		if kind != websocket.TextMessage {
			return errors.New("not a text frame")
		}
		if string(data) == message {
			return nil
		}
		if string(data) != "are you bound" {
			return fmt.Errorf("expected %s, got %s", short(message), short(string(data)))
		}
	}
}

func pushTo(count int, user, event, message string) error {
	answer, err := push(user, event, message)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("message sent to %d clients", count); answer != want {
		return fmt.Errorf("%s of %s: %q, expected %q", event, user, answer, want)
	}
	return nil
}

func push(user, event, message string) (string, error) {
	body, err := json.Marshal(PushMessage{UserID: user, Event: event, Message: message})
	if err != nil {
		return "", err
	}
	status, answer, err := post(string(body))
	if err == nil && status != 200 {
		err = fmt.Errorf("a push got %d %q", status, answer)
	}
	return answer, err
}

func post(body string) (int, string, error) {
	client := http.Client{Timeout: patience}
	response, err := client.Post(origin+"/push", "application/json", bytes.NewBufferString(body))
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

func short(text string) string {
	if len(text) > 80 {
		return fmt.Sprintf("%q … (%d bytes)", text[:80], len(text))
	}
	return fmt.Sprintf("%q", text)
}
