"""Calls a runtime through grpcio, whose core is also that of the C++, Ruby and PHP clients.

usage: grpcio.py SOCKET PROTO_DIRECTORY

PROTO_DIRECTORY holds api.proto; its Python is made in a temporary directory. grpcio and grpcio-tools are found in PYTHONPATH.
"""

import concurrent.futures
import sys
import tempfile

import grpc
from grpc_tools import protoc


def messages(directory):
    made = tempfile.TemporaryDirectory()
    arguments = ["protoc", f"-I{directory}", f"--python_out={made.name}", f"--grpc_python_out={made.name}", "api.proto"]
    assert protoc.main(arguments) == 0, "protoc failed"
    sys.path.insert(0, made.name)
    import api_pb2
    import api_pb2_grpc

    return api_pb2, api_pb2_grpc


def main():
    socket, directory = sys.argv[1:]
    pb, stubs = messages(directory)
    for target in [f"unix:{socket}", f"unix://{socket}"]:
        with grpc.insecure_channel(target) as channel:
            runtime, images = stubs.RuntimeServiceStub(channel), stubs.ImageServiceStub(channel)
            assert runtime.Version(pb.VersionRequest()).runtime_name == "husk"
            # Later calls on a connection name the authority by its place in the compression table.
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                for answer in [pool.submit(images.ImageFsInfo, pb.ImageFsInfoRequest()) for _ in range(200)]:
                    assert answer.result().image_filesystems
            # Entries that come and go in that table, and a block longer than a frame.
            for number in range(200):
                runtime.Version(pb.VersionRequest(), metadata=[(f"x-{number}", "y" * 100)])
            runtime.Version(pb.VersionRequest(), metadata=[("x-long", "z" * 40000)])
            assert runtime.Status(pb.StatusRequest(), compression=grpc.Compression.Gzip).status.conditions
            events = runtime.GetContainerEvents(pb.GetEventsRequest())
            events.cancel()
            try:
                runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id="nobody"))
                raise AssertionError("a pod that does not exist has a status")
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND, error
    print("all calls were answered")


if __name__ == "__main__":
    main()
