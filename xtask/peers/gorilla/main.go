// A push server in Go with gorilla/websocket and the design of the ancestor: a map from user to
// connections under one lock, a goroutine for each connection, and a write to each of them from
// the request that pushes. Speaks version 1 of our protocol. Its one argument is the address to
// listen on.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
)

type registerMessage struct {
	Token string
	Event string
}

type pushMessage struct {
	UserID  string `json:"userId"`
	Event   string
	Message string
}

// conn serialises the writers of one connection, as gorilla asks for.
type conn struct {
	*websocket.Conn
	writing sync.Mutex
}

func (c *conn) write(message []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.WriteMessage(websocket.TextMessage, message)
}

type binder struct {
	sync.RWMutex
	users map[string]map[string][]*conn
}

func (b *binder) bind(user, event string, c *conn) {
	b.Lock()
	defer b.Unlock()
	events := b.users[user]
	if events == nil {
		events = map[string][]*conn{}
		b.users[user] = events
	}
	events[event] = append(events[event], c)
}

func (b *binder) unbind(user, event string, c *conn) {
	b.Lock()
	defer b.Unlock()
	events := b.users[user]
	conns := events[event]
	for at, other := range conns {
		if other == c {
			conns[at] = conns[len(conns)-1]
			events[event] = conns[:len(conns)-1]
			break
		}
	}
	if len(events[event]) == 0 {
		delete(events, event)
	}
	if len(events) == 0 {
		delete(b.users, user)
	}
}

func (b *binder) find(user, event string) []*conn {
	b.RLock()
	defer b.RUnlock()
	return append([]*conn(nil), b.users[user][event]...)
}

func main() {
	users := &binder{users: map[string]map[string][]*conn{}}
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	http.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c := &conn{Conn: socket}
		defer c.Close()
		for {
			_, data, err := c.ReadMessage()
			if err != nil {
				return
			}
			var register registerMessage
			if json.Unmarshal(data, &register) != nil {
				continue
			}
			users.bind(register.Token, register.Event, c)
			defer users.unbind(register.Token, register.Event, c)
		}
	})
	http.HandleFunc("/push", func(w http.ResponseWriter, r *http.Request) {
		var push pushMessage
		if json.NewDecoder(r.Body).Decode(&push) != nil {
			http.Error(w, "request data illegal", http.StatusBadRequest)
			return
		}
		message := []byte(push.Message)
		count := 0
		for _, c := range users.find(push.UserID, push.Event) {
			if c.write(message) == nil {
				count++
			}
		}
		fmt.Fprintf(w, "message sent to %d clients", count)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
