// Command client is made of centrifuge-go, unchanged. `make centrifuge-go` runs it by
// tests/journeys/centrifuge.rs:
//
//	client '{"url":"ws://…","tickets":"http://…/v1/tickets","user":"42"}'
//
// The SDK keeps the same data for all its connections, so one ticket opens one of them. With
// "secret" it signs itself JWTs that live for "life" seconds instead, where "token" is not the
// first one. Ticket and JWTs have "grants". With "protobuf" it speaks Protobuf, with "follow" it
// subscribes to that topic by itself, with "call" it makes these calls, once connected. It prints
// `ticket T` for its ticket, and everything that happens as one JSON object a line, until it is
// killed.
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

type object = map[string]any

var options struct {
	URL, Tickets, User, Secret, Token, Follow string

	Life     int64
	Protobuf bool
	Grants   object
	Call     [][2]json.RawMessage
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

func granting(value object) object {
	maps.Copy(value, options.Grants)
	return value
}

func ticket() string {
	body, err := json.Marshal(granting(object{"user_id": options.User}))
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
	claims := part(granting(object{
		"sub": options.User, "exp": time.Now().Unix() + options.Life,
	}))
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

func subscribed(channel string, recovered, recovering, recoverable bool, at *centrifuge.StreamPosition) {
	said := object{
		"channel": channel, "recovered": recovered,
		"wasRecovering": recovering, "recoverable": recoverable,
	}
	if at != nil {
		said["streamPosition"] = object{"offset": at.Offset, "epoch": at.Epoch}
	}
	say("subscribed", said)
}

func publication(channel string, pub centrifuge.Publication) {
	say("publication", object{
		"channel": channel, "data": shown(pub.Data), "offset": pub.Offset, "tags": pub.Tags,
	})
}

func follow(client *centrifuge.Client, topic string) {
	subscription, err := client.NewSubscription(topic)
	check(err)
	subscription.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		subscribed(topic, e.Recovered, e.WasRecovering, e.Recoverable, e.StreamPosition)
	})
	subscription.OnPublication(func(e centrifuge.PublicationEvent) { publication(topic, e.Publication) })
	check(subscription.Subscribe())
}

func call(client *centrifuge.Client, one [2]json.RawMessage) {
	var name string
	check(json.Unmarshal(one[0], &name))
	said := object{"name": name}
	answer, err := client.RPC(context.Background(), name, one[1])
	var answered *centrifuge.Error
	switch {
	case errors.As(err, &answered):
		said["code"], said["message"] = answered.Code, answered.Message
	case err != nil:
		said["message"] = err.Error()
	default:
		said["data"] = shown(answer.Data)
	}
	say("answer", said)
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
		subscribed(e.Channel, e.Recovered, e.WasRecovering, e.Recoverable, e.StreamPosition)
	})
	client.OnPublication(func(e centrifuge.ServerPublicationEvent) { publication(e.Channel, e.Publication) })
	if options.Follow != "" {
		follow(client, options.Follow)
	}
	check(client.Connect())
	for _, one := range options.Call {
		call(client, one)
	}
	select {}
}
