"""What two or more Meshwright services share."""

import os

# gRPC reads it when it is imported, and tells every closed connection on standard error without.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
