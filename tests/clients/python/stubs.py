"""What protoc makes of the proto file, for callers by grpcio."""

import importlib
import os
import sys
import tempfile

from grpc_tools import protoc


def stubs(folder):
    """The messages and the services of usher.v1, from the proto folder."""
    target = tempfile.mkdtemp()
    builtin = os.path.join(os.path.dirname(protoc.__file__), "_proto")
    files = [
        os.path.join("usher", "v1", "notification.proto"),
        os.path.join("google", "rpc", "status.proto"),
    ]
    arguments = ["protoc", f"-I{folder}", f"-I{builtin}"]
    arguments += [f"--python_out={target}", f"--grpc_python_out={target}", *files]
    if protoc.main(arguments) != 0:
        sys.exit("protoc refuses the proto files")
    sys.path.insert(0, target)
    return (
        importlib.import_module("usher.v1.notification_pb2"),
        importlib.import_module("usher.v1.notification_pb2_grpc"),
    )


def is_certain(error):
    """Whether the gateway itself says that nothing was published."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return b"google.rpc.ErrorInfo" in value and b"NOT_PUBLISHED" in value
    return False
