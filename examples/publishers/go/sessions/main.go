// Sessions asks who is online, and ends a user's sessions, by NATS's service API.
//
//	go run ./sessions presence USER...
//	go run ./sessions disconnect USER [REASON]
//
// NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom. Prints the answer; exits 0 where
// every gateway has answered, 1 where nothing was done, 2 where that is unknown.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

// The exit code, and what to print.
func call(nc *nats.Conn, endpoint string, body any) (int, string) {
	data, err := json.Marshal(body)
	if err != nil {
		return 1, err.Error()
	}
	answer, err := nc.Request("usher.api."+endpoint, data, 2*time.Second)
	if errors.Is(err, nats.ErrNoResponders) {
		return 1, "no gateway is there"
	} else if err != nil { // a disconnect may have happened: it is safe to ask again
		return 2, err.Error()
	}
	if code := answer.Header.Get("Nats-Service-Error-Code"); code == "504" {
		return 2, "504: no gateway has answered, and a disconnect may have happened"
	} else if code != "" {
		return 1, code + ": " + answer.Header.Get("Nats-Service-Error")
	}
	var found struct{ Complete bool }
	if err := json.Unmarshal(answer.Data, &found); err != nil || !found.Complete {
		// A gateway did not answer. Users may be online there; ask again.
		return 2, string(answer.Data)
	}
	return 0, string(answer.Data)
}

func main() {
	url := cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL)
	nc, err := nats.Connect(url, nats.UserInfo(os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")))
	if err != nil {
		log.Fatal(err)
	}
	endpoint, users := os.Args[1], os.Args[2:]
	body := map[string]any{"user_ids": users}
	if endpoint == "disconnect" {
		users = append(users, "")
		body = map[string]any{"user_id": users[0], "reason": users[1]}
	}
	code, line := call(nc, endpoint, body)
	nc.Close()
	fmt.Println(line)
	os.Exit(code)
}
