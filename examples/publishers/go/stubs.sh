#!/usr/bin/env bash
# Makes usherv1/, the stubs for pushgrpc, from the proto file. PROTOC is a protoc of your own;
# without it protoc from PATH, else the one of Python's grpcio-tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ -n "${PROTOC:-}" ]; then :
elif command -v protoc >/dev/null; then PROTOC=protoc
elif python3 -c 'import grpc_tools' 2>/dev/null; then PROTOC="python3 -m grpc_tools.protoc"
else
    echo "protoc is missing: apt-get install protobuf-compiler, or pip install grpcio-tools" >&2
    exit 1
fi
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
GOBIN=$plugins go install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
package=Musher/v1/notification.proto=usher/publishers/usherv1
PATH=$plugins:$PATH $PROTOC -I ../../../proto usher/v1/notification.proto \
    --go_out=. --go_opt=module=usher/publishers,$package \
    --go-grpc_out=. --go-grpc_opt=module=usher/publishers,$package
