"""Celery at work on tasks that do nothing, with the same RabbitMQ as the platform's worker.

Run by the Python of its own environment (infra/dev/peers.sh), which has nothing of the platform:

    <python> bench/peers/celery_worker.py --broker amqp://… --queue bench --count 6000 --pool solo

publishes that many tasks, confirmed by the broker, then works on them, and prints
`rate <tasks/s>`: from the beginning of the first to the end of the last. Without `--results` a task
is settled before it runs and nothing is kept of it: Celery at its fastest. With the URL of a
PostgreSQL it is settled after it ran, and its end is stored there.
"""

import argparse
import importlib
import multiprocessing
import os
import signal
import threading
import time
from typing import Any


def _application(broker: str, queue: str, results: str) -> Any:
    backend = results.replace("postgresql://", "db+postgresql+psycopg2://") or None
    app = importlib.import_module("celery").Celery("bench", broker=broker, backend=backend)
    app.conf.update(
        task_ignore_result=not results,
        task_acks_late=bool(results),
        task_default_queue=queue,
        task_default_queue_type="quorum",
        broker_transport_options={"confirm_publish": True},
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_prefetch_multiplier=64,
        broker_connection_retry_on_startup=True,
    )
    return app


def main() -> None:
    """Publish, work, print the rate, end."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--broker", required=True)
    arguments.add_argument("--queue", required=True)
    arguments.add_argument("--count", type=int, required=True)
    arguments.add_argument("--pool", choices=["solo", "prefork"], required=True)
    arguments.add_argument("--results", default="")
    options = arguments.parse_args()
    app = _application(options.broker, options.queue, options.results)
    done = multiprocessing.Value("q", 0)
    began, ended = multiprocessing.Value("d", 0.0), multiprocessing.Value("d", 0.0)

    def work() -> None:
        with done:
            if not done.value:
                began.value = time.perf_counter()
            done.value += 1
            if done.value == options.count:
                ended.value = time.perf_counter()

    noop = app.task(name="noop")(work)
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(options.count):
            noop.apply_async(producer=producer)

    def end_when_done() -> None:
        while not ended.value:
            time.sleep(0.1)
        print(f"rate {options.count / (ended.value - began.value):.2f}", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_when_done, daemon=True).start()
    app.worker_main(["worker", "--pool", options.pool, "--concurrency", "1", "--loglevel", "ERROR"])


if __name__ == "__main__":
    main()
