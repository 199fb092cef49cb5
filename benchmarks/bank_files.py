"""What the files of a bank cost, besides training its models.

    python benchmarks/bank_files.py [--latency 30] [--models 4000] [--examples 60000]

Many workers write made-up rows of a bank of N examples (and 10 000 of T) into one work directory,
at the same time; then one process lists them and computes memorization. It does so in a local
folder and, where s3fs and moto are installed (`pip install s3fs 'moto[server]'`), in a bucket of a
server on this machine that answers each request late, as one far away would. Prints seconds, and as
its last line a JSON object with their share of the run: of the time in which as many GPUs as
workers train the models, 30 epochs of ResNet-18 each, of which an H200 trains 6 265 an hour.
"""

import argparse
import contextlib
import importlib.util
import multiprocessing
import os
import tempfile
import time

import numpy as np
import pairs

from rumjax.lab.answers import Answers
from rumjax.lab.bank import ModelBank
from rumjax.lab.workdir import WorkDirectory

EPOCHS, EPOCHS_AN_HOUR = 30, 6265
TESTED = 10_000
READS = 3
"""times that a run reads all rows: for damaged ones, stability, and memorization"""


def opened(where, examples, holder="main"):
    header = {"seed": 0, "fraction": 0.7, "size": examples, "examples": examples + TESTED}
    return ModelBank(WorkDirectory(where, holder=holder, lock=holder == "main"), header)


def write(where, examples, worker, models, start):
    """Writes one worker's rows, when all are there; their time."""
    bank, random = opened(where, examples, f"worker_{worker}"), np.random.default_rng(worker)
    margins = random.normal(size=examples + TESTED).astype(np.float32)
    start.wait()
    begin = time.perf_counter()
    for model in models:
        bank.write(model, Answers(margins, margins > 0), 1.0)
    return time.perf_counter() - begin


def measure(where, arguments):
    """Seconds by what they went to."""
    models, workers, examples = arguments.models, arguments.workers, arguments.examples
    bank = opened(where, examples)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rumjax.lab.bank"])
    with context.Manager() as manager, context.Pool(workers) as pool:
        start = manager.Barrier(workers)
        shares = [(where, examples, i, range(i, models, workers), start) for i in range(workers)]
        took = pool.starmap(write, shares, chunksize=1)
    found = {"writing, slowest worker": max(took)}
    for name, function in {"listing": bank.done, "reading": bank.memorization}.items():
        begin = time.perf_counter()
        function()
        found[name] = time.perf_counter() - begin
    bank.work.close()
    training = models * EPOCHS / EPOCHS_AN_HOUR * 3600 / workers
    total = found["writing, slowest worker"] + found["listing"] + READS * found["reading"]
    return {**found, "training": training, "share of the run": total / training}


def serve(latency, port):
    """Stands in for S3."""
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug import serving

    logging.getLogger("werkzeug").setLevel("ERROR")
    app = DomainDispatcherApplication(create_backend_app)

    def late(*request):
        time.sleep(latency / 1000)
        return app(*request)

    server = serving.make_server("127.0.0.1", 0, late, threaded=True)
    port.put(server.port)
    server.serve_forever()


@contextlib.contextmanager
def bucket(latency):
    """The place of a work directory in a bucket."""
    ports = multiprocessing.get_context("spawn").Queue()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(latency, ports))
    server.start()
    try:
        named = {"ACCESS_KEY_ID": "none", "SECRET_ACCESS_KEY": "none"}
        named |= {"DEFAULT_REGION": "us-east-1", "ENDPOINT_URL": f"http://127.0.0.1:{ports.get()}"}
        os.environ.update({f"AWS_{name}": value for name, value in named.items()})
        import boto3

        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket/run"
    finally:
        server.terminate()
        server.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=4000)
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--latency", type=float, default=30, help="of the bucket, milliseconds")
    parser.add_argument("--only", choices=("folder", "bucket"))
    arguments = parser.parse_args()
    # The bucket first: all workers have the environment of the first.
    places = {"bucket": lambda: bucket(arguments.latency), "folder": tempfile.TemporaryDirectory}
    if not (importlib.util.find_spec("s3fs") and importlib.util.find_spec("moto")):
        print("without a bucket, which needs s3fs and moto[server]")
        del places["bucket"]
    found = {}
    for name, place in places.items():
        if arguments.only in (None, name):
            with place() as where:
                found[name] = {k: round(s, 3) for k, s in measure(where, arguments).items()}
            print(f"{name}: {found[name]}", flush=True)
    pairs.finish("bank_files", latency=arguments.latency, **found)


if __name__ == "__main__":
    main()
