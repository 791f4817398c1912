// Peer: the usual design in Go. Gorilla's WebSocket, encoding/json, and a channel with a writing goroutine for each client.
//
// It does the same work as the server in its basic form (topics over REST; subscribe, publish, acknowledgement and event)
// and nothing else: no history, no heartbeat, no limits.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// More than the benchmark has in flight, so that a client that keeps up loses nothing.
const queueSize = 1000

type message struct {
	ID      string          `json:"id"`
	Payload json.RawMessage `json:"payload"`
}

type request struct {
	Type      string  `json:"type"`
	Topic     string  `json:"topic"`
	RequestID string  `json:"request_id"`
	Message   message `json:"message"`
}

type event struct {
	Type    string  `json:"type"`
	Topic   string  `json:"topic"`
	Message message `json:"message"`
	Seq     uint64  `json:"seq"`
	TS      string  `json:"ts"`
}

type answer struct {
	Type      string `json:"type"`
	RequestID string `json:"request_id,omitempty"`
	Topic     string `json:"topic"`
	Status    string `json:"status"`
	TS        string `json:"ts"`
}

type client struct {
	socket *websocket.Conn
	queue  chan []byte
}

type topic struct {
	sync.Mutex
	seq         uint64
	subscribers map[*client]bool
}

type server struct {
	sync.RWMutex
	topics   map[string]*topic
	upgrader websocket.Upgrader
}

func timestamp() string {
	return time.Now().UTC().Format(time.RFC3339)
}

func encode(value interface{}) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		log.Panic(err)
	}
	return text
}

// Drops the oldest message if the queue is full.
func (c *client) enqueue(text []byte) {
	for {
		select {
		case c.queue <- text:
			return
		default:
		}
		select {
		case <-c.queue:
		default:
		}
	}
}

func (c *client) writeQueued() {
	for text := range c.queue {
		if c.socket.WriteMessage(websocket.TextMessage, text) != nil {
			return
		}
	}
}

func (t *topic) publish(name string, published message) {
	t.Lock()
	defer t.Unlock()
	t.seq++
	text := encode(event{"event", name, published, t.seq, timestamp()})
	for subscriber := range t.subscribers {
		subscriber.enqueue(text)
	}
}

func (t *topic) subscribe(c *client) {
	t.Lock()
	defer t.Unlock()
	t.subscribers[c] = true
}

func (t *topic) unsubscribe(c *client) {
	t.Lock()
	defer t.Unlock()
	delete(t.subscribers, c)
}

func (s *server) topic(name string) *topic {
	s.RLock()
	defer s.RUnlock()
	return s.topics[name]
}

func (s *server) forget(c *client) {
	s.RLock()
	defer s.RUnlock()
	for _, t := range s.topics {
		t.unsubscribe(c)
	}
}

func (s *server) answer(c *client, r request) {
	t := s.topic(r.Topic)
	if t == nil {
		c.enqueue(encode(answer{"error", r.RequestID, r.Topic, "TOPIC_NOT_FOUND", timestamp()}))
		return
	}
	if r.Type == "subscribe" {
		t.subscribe(c)
	} else {
		t.publish(r.Topic, r.Message)
	}
	c.enqueue(encode(answer{"ack", r.RequestID, r.Topic, "ok", timestamp()}))
}

func (s *server) serveClient(w http.ResponseWriter, r *http.Request) {
	socket, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &client{socket, make(chan []byte, queueSize)}
	go c.writeQueued()
	for {
		var asked request
		if socket.ReadJSON(&asked) != nil {
			break
		}
		s.answer(c, asked)
	}
	s.forget(c)
	close(c.queue)
	socket.Close()
}

func (s *server) createTopic(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Name string }
	if json.NewDecoder(r.Body).Decode(&asked) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.Lock()
	s.topics[asked.Name] = &topic{subscribers: map[*client]bool{}}
	s.Unlock()
	w.WriteHeader(http.StatusCreated)
}

func main() {
	s := &server{topics: map[string]*topic{}}
	http.HandleFunc("/ws", s.serveClient)
	http.HandleFunc("/topics", s.createTopic)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
