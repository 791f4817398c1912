// A WebSocket client for standard input and output: sends each line as a message, prints each message on a line.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/gorilla/websocket"
)

func main() {
	connection, _, err := websocket.DefaultDialer.Dial(os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	go sendLines(connection)
	for {
		_, message, err := connection.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			fmt.Printf("closed %d\n", closed.Code)
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", message)
	}
}

func sendLines(connection *websocket.Conn) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		connection.WriteMessage(websocket.TextMessage, lines.Bytes())
	}
	connection.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
}
