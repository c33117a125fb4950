// Offlineworker sends a mobile push for each message that no session was given (offline.events).
//
//	go run ./offlineworker [COUNT]
//
// Ends after COUNT messages; without COUNT at SIGINT or SIGTERM. NATS_URL, NATS_USER and
// NATS_PASSWORD say where and as whom.
//
// Gateways publish on usher.offline.USER once. A plain subscriber misses it while it restarts, so
// a stream of our own captures it. That stream also drops repetitions with the same Nats-Msg-Id.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Here you call APNs or FCM. key is the same in a repetition: use it to send once.
func sendMobilePush(user, event, data, key string) {
	fmt.Printf("mobile push %s %s %s key=%s\n", user, event, data, key)
}

func work(over context.Context, nc *nats.Conn, count int) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	stream, err := js.CreateStream(over, jetstream.StreamConfig{ // nothing where it is there so
		Name: "USHER_OFFLINE", Subjects: []string{"usher.offline.*"},
		Retention: jetstream.WorkQueuePolicy, // a message goes once it is acknowledged
		MaxAge:    24 * time.Hour,
	})
	if err != nil {
		return err
	}
	// All workers share this consumer. What is not acknowledged within 30 s comes again.
	consumer, err := stream.CreateOrUpdateConsumer(over, jetstream.ConsumerConfig{
		Durable: "mobile", FilterSubject: "usher.offline.*", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for done := 0; over.Err() == nil && (count == 0 || done < count); {
		message, err := consumer.Next(jetstream.FetchMaxWait(time.Second))
		if errors.Is(err, nats.ErrTimeout) {
			continue
		} else if err != nil {
			return err
		}
		user, err := url.PathUnescape(strings.TrimPrefix(message.Subject(), "usher.offline."))
		if err != nil {
			return err
		}
		headers := message.Headers()
		key := cmp.Or(headers.Get("Nats-Msg-Id"), headers.Get("Usher-Seq"))
		sendMobilePush(user, cmp.Or(headers.Get("Event"), "message"), string(message.Data()), key)
		// After the work: a worker that dies here has it come again.
		if err := message.DoubleAck(over); err != nil {
			return err
		}
		done++
	}
	return nil
}

func main() {
	over, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	count, err := strconv.Atoi(append(os.Args, "0")[1])
	if err != nil {
		log.Fatal("COUNT is a number: ", err)
	}
	address := cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL)
	nc, err := nats.Connect(address, nats.UserInfo(os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	if err := work(over, nc, count); err != nil && over.Err() == nil {
		log.Fatal(err)
	}
}
