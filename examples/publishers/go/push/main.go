// Push pushes to a user by NATS, and says what became of it.
//
//	go run ./push USER JSON [MESSAGE_ID]
//
// NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom. Prints one line; exits 0 where it
// is published, 1 where it certainly is not, 2 where that is unknown.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

func escaped(user string) string {
	var b strings.Builder
	for _, c := range []byte(user) {
		if c == '-' || c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// The exit code, and what to say.
func push(nc *nats.Conn, user, data, messageID string) (int, string) {
	message := nats.NewMsg("usher.user." + escaped(user))
	message.Data = []byte(data)
	message.Header.Set("Event", "order.completed")
	if messageID != "" { // unique across users; the APIs of Usher write the same
		message.Header.Set("Nats-Msg-Id", escaped(user)+":"+messageID)
	}
	answer, err := nc.RequestMsg(message, 2*time.Second)
	if errors.Is(err, nats.ErrNoResponders) {
		// Live mode: no session of the user, the message is gone.
		// Durable mode: the stream is missing or has no leader, the message is not stored.
		return 1, "not published: nobody listens (live mode: the user is offline)"
	} else if err != nil {
		// Durable mode: push again with the same MESSAGE_ID; it is stored once.
		// Live mode, or without a MESSAGE_ID: a repetition may be delivered twice.
		// nats.go tells its error handler of a permissions violation; by default it prints it.
		return 2, "unknown: " + err.Error()
	}
	var found struct {
		Stream        string
		Seq, Sessions uint64
		Duplicate     bool
		Error         *struct{ Description string }
	}
	if err := json.Unmarshal(answer.Data, &found); err != nil {
		return 2, "unknown: " + err.Error()
	}
	switch {
	case found.Error != nil: // the stream says why it did not store the message
		return 1, "not published: " + found.Error.Description
	case found.Duplicate:
		return 0, fmt.Sprintf("stored seq=%d duplicate", found.Seq)
	case found.Stream != "":
		return 0, fmt.Sprintf("stored seq=%d", found.Seq)
	default: // a gateway's receipt: there is no stream, so the message is queued and not stored
		return 0, fmt.Sprintf("queued sessions=%d", found.Sessions)
	}
}

func main() {
	url := cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL)
	nc, err := nats.Connect(url, nats.UserInfo(os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")))
	if err != nil {
		log.Fatal(err) // exits 1: nothing was published
	}
	arguments := append(os.Args[1:], "")
	code, line := push(nc, arguments[0], arguments[1], arguments[2])
	nc.Close()
	fmt.Println(line)
	os.Exit(code)
}
