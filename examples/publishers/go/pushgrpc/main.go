// Pushgrpc pushes to a user by gRPC with a receipt, and says what became of it.
//
//	go run ./pushgrpc USER JSON [MESSAGE_ID]
//
// Needs the stubs that ../README.md says how to make. USHER_GRPC and USHER_TOKEN say where and
// with which of grpc.tokens. Prints one line; exits 0 where it is published, 1 where it certainly
// is not, 2 where that is unknown.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"usher/publishers/usherv1"
)

// Whether the gateway itself says so. The code alone proves nothing: grpc-go answers UNAVAILABLE
// too, where a connection breaks under a call.
func certainlyNotPublished(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if ok && info.GetReason() == "NOT_PUBLISHED" && info.GetDomain() == "usher" {
			return true
		}
	}
	return false
}

func main() {
	address := cmp.Or(os.Getenv("USHER_GRPC"), "127.0.0.1:9090")
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err) // exits 1: nothing was published
	}
	defer connection.Close()
	call, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if token := os.Getenv("USHER_TOKEN"); token != "" {
		call = metadata.AppendToOutgoingContext(call, "authorization", "Bearer "+token)
	}
	arguments := append(os.Args[1:], "")
	answer, err := usherv1.NewNotificationClient(connection).PushNotification(call, &usherv1.PushRequest{
		UserId: arguments[0], Message: []byte(arguments[1]), MessageId: arguments[2],
		Event: "order.completed", Receipt: true,
	})
	if err != nil && certainlyNotPublished(err) {
		fmt.Println("not published:", err)
		os.Exit(1)
	} else if err != nil {
		fmt.Println("unknown:", err)
		os.Exit(2)
	}
	line := strings.ToLower(strings.TrimPrefix(answer.Status.String(), "PUSH_STATUS_"))
	// "dispatched": the MESSAGE_ID was stored before; nobody was asked about sessions.
	if answer.Status != usherv1.PushStatus_PUSH_STATUS_DISPATCHED {
		line += fmt.Sprintf(" sessions=%d", answer.Sessions)
	}
	if answer.Seq != 0 { // durable mode
		line += fmt.Sprintf(" seq=%d", answer.Seq)
	}
	fmt.Println(line)
}
