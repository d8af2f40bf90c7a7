"""Ask over gRPC with nothing of Meshwright but its stubs: pip install ./protos

python docs/examples/ask_over_grpc.py .meshwright/endpoint.json "What is 17*23+4?"
"""

import json
import sys
from pathlib import Path

import grpc

from meshwright.chat.v1 import chat_service_pb2
from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from meshwright_credentials import loopback_channel_credentials


def main(endpoint_file: str, question: str) -> None:
    endpoint = json.loads(Path(endpoint_file).read_text())
    credentials = loopback_channel_credentials(endpoint["url"], endpoint["api_key"])
    with grpc.secure_channel(endpoint["grpc"]["chat"], credentials) as channel:
        request = chat_service_pb2.StreamChatRequest(message=question)
        for response in ChatServiceStub(channel).StreamChat(request, timeout=60):
            event = response.event
            match event.WhichOneof("event"):
                case "message_delta":
                    sys.stdout.write(event.message_delta.text)
                case "tool_call":
                    sys.stdout.write(f"▸ {event.tool_call.name} {event.tool_call.arguments_json}\n")
                case "citation":
                    cited = event.citation
                    sys.stdout.write(f"\n[{cited.number}] {cited.document_name}, page {cited.page}")
                case "failed":
                    sys.exit(f"{event.failed.message} ({event.failed.reason})")
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
