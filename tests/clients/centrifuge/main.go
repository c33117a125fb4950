// Command client is made of centrifuge-go, unchanged. `make centrifuge-go` runs it by
// tests/journeys/centrifuge.rs:
//
//	client '{"url":"ws://…","tickets":"http://…/v1/tickets","user":"42"}'
//
// The SDK keeps the same data for all its connections, so one ticket opens one of them. With
// "secret" it signs itself JWTs that live for "life" seconds instead, where "token" is not the
// first one. With "protobuf" it speaks Protobuf. It prints `ticket T` for its ticket, and everything that
// happens as one JSON object a line, until it is killed.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

type object = map[string]any

var options struct {
	URL, Tickets, User, Secret, Token string
	Life                              int64
	Protobuf                          bool
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func say(on string, rest object) {
	rest["on"] = on
	line, err := json.Marshal(rest)
	check(err)
	fmt.Println(string(line))
}

func ticket() string {
	body, err := json.Marshal(object{"user_id": options.User})
	check(err)
	answer, err := http.Post(options.Tickets, "application/json", bytes.NewReader(body))
	check(err)
	defer answer.Body.Close()
	var minted struct{ Ticket string }
	check(json.NewDecoder(answer.Body).Decode(&minted))
	fmt.Println("ticket " + minted.Ticket)
	return minted.Ticket
}

func token() string {
	part := func(value object) string {
		text, err := json.Marshal(value)
		check(err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	head := part(object{"alg": "HS256", "typ": "JWT"})
	claims := part(object{"sub": options.User, "exp": time.Now().Unix() + options.Life})
	signer := hmac.New(sha256.New, []byte(options.Secret))
	signer.Write([]byte(head + "." + claims))
	signature := base64.RawURLEncoding.EncodeToString(signer.Sum(nil))
	say("token", object{})
	signed := head + "." + claims + "." + signature
	fmt.Println("ticket " + signed)
	return signed
}

// What came, as the other clients print it: JSON, or each byte as a character.
func shown(data []byte) any {
	if !options.Protobuf {
		return json.RawMessage(data)
	}
	characters := make([]rune, len(data))
	for i, b := range data {
		characters[i] = rune(b)
	}
	return string(characters)
}

func main() {
	check(json.Unmarshal([]byte(os.Args[1]), &options))
	config := centrifuge.Config{
		MinReconnectDelay: 50 * time.Millisecond,
		MaxReconnectDelay: 300 * time.Millisecond,
	}
	if options.Secret != "" {
		config.Token = options.Token
		config.GetToken = func(centrifuge.ConnectionTokenEvent) (string, error) {
			return token(), nil
		}
	} else {
		data, err := json.Marshal(object{"ticket": ticket()})
		check(err)
		config.Data = data
	}
	var client *centrifuge.Client
	if options.Protobuf {
		client = centrifuge.NewProtobufClient(options.URL, config)
	} else {
		client = centrifuge.NewJsonClient(options.URL, config)
	}
	client.OnConnecting(func(e centrifuge.ConnectingEvent) {
		say("connecting", object{"code": e.Code, "reason": e.Reason})
	})
	client.OnConnected(func(centrifuge.ConnectedEvent) { say("connected", object{}) })
	client.OnDisconnected(func(e centrifuge.DisconnectedEvent) {
		say("disconnected", object{"code": e.Code, "reason": e.Reason})
	})
	client.OnError(func(e centrifuge.ErrorEvent) {
		said := object{"message": e.Error.Error()}
		var answered *centrifuge.Error
		if errors.As(e.Error, &answered) {
			said["code"] = answered.Code
		}
		say("error", object{"error": said})
	})
	client.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) {
		said := object{
			"channel": e.Channel, "recovered": e.Recovered,
			"wasRecovering": e.WasRecovering, "recoverable": e.Recoverable,
		}
		if e.StreamPosition != nil {
			said["streamPosition"] = object{
				"offset": e.StreamPosition.Offset, "epoch": e.StreamPosition.Epoch,
			}
		}
		say("subscribed", said)
	})
	client.OnPublication(func(e centrifuge.ServerPublicationEvent) {
		say("publication", object{
			"channel": e.Channel, "data": shown(e.Data), "offset": e.Offset, "tags": e.Tags,
		})
	})
	check(client.Connect())
	select {}
}
