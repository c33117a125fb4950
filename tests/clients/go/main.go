// Command drain pushes without a pause, by grpc-go, while gateways are drained.
// `make drain-go` runs it by tests/journeys/grpc_drain.rs:
//
//	drain GRPC_ADDRESS CALLERS
//
// Each caller has a connection of its own and makes one call after another, each with
// a receipt. It prints a line for each call, `ID STATUS`, where the ID is the message's
// payload. It ends at SIGTERM, when every call that it began has its answer.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
)

const (
	method = "/usher.v1.Notification/PushNotification"
	// A gateway that is away is tried again after so long.
	again = 50 * time.Millisecond
)

// wire passes on messages that are encoded already, so that the proto file needs no
// generated code here.
type wire struct{}

func (wire) Name() string { return "proto" }

func (wire) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (wire) Unmarshal(bytes []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), bytes...)
	return nil
}

// push is an encoded usher.v1.PushRequest with a receipt. Names are shorter than 128
// bytes, so that a length is one byte.
func push(user, message string) []byte {
	encoded := append([]byte{1<<3 | 2, byte(len(user))}, user...)
	encoded = append(encoded, 2<<3|2, byte(len(message)))
	encoded = append(encoded, message...)
	return append(encoded, 5<<3|0, 1)
}

func main() {
	address := os.Args[1]
	callers, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "CALLERS is a number:", err)
		os.Exit(64)
	}
	encoding.RegisterCodec(wire{})
	over, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var printing sync.Mutex
	var running sync.WaitGroup
	for caller := range callers {
		running.Add(1)
		go func() {
			defer running.Done()
			connection, err := grpc.NewClient(address,
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithConnectParams(grpc.ConnectParams{
					Backoff:           backoff.Config{BaseDelay: again, Multiplier: 1, MaxDelay: again},
					MinConnectTimeout: time.Second,
				}))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			defer connection.Close()
			for number := 1; over.Err() == nil; number++ {
				name := fmt.Sprintf("%d-%d", caller, number)
				call, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				request, answer := push("drain", name), []byte{}
				err := connection.Invoke(call, method, &request, &answer)
				cancel()
				code := status.Code(err)
				printing.Lock()
				fmt.Println(name, code)
				printing.Unlock()
				if code != codes.OK {
					time.Sleep(again)
				}
			}
		}()
	}
	running.Wait()
	fmt.Println("over")
}
