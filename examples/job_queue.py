"""A job queue: producers and workers over one event port.

    python examples/job_queue.py --jobs 20000 --slots 16

- A job is a user event; the port is the queue. Each job goes to one worker, once.
- The queue is bounded: a port has as many slots as `max_events` says, and `send` never waits. A
  producer that meets EAGAIN does a job itself and tries again: it is not idle, it makes room, and
  nothing has to be timed.
- Results go to a second port, which has a slot for each of them, so that no worker meets EAGAIN.
- The end is an alert: it reaches every thread, ahead of all that is queued; what was queued stays.
  Ctrl-C ends the run the same way, early. The handler only sends, because `send` is the one call
  that a handler may make at any moment; the main thread takes the event and alerts the others.
"""

import argparse
import errno
import hashlib
import signal
from collections import Counter
from threading import Thread, current_thread

from portcompat import PORT_SOURCE_ALERT, Port, PortEvent

RESULT, STOP = 1, 2  # the `events` of what is sent to the results port


class JobQueue:
    """Two ports, and what the threads do with them."""

    def __init__(self, jobs: Port, results: Port) -> None:
        self.jobs, self.results = jobs, results
        self.refused: Counter[str] = Counter()  # by producer: how often the queue was full

    def produce(self, numbers: range) -> None:
        for number in numbers:
            while not self.put(number):
                self.refused[current_thread().name] += 1
                for event in self.jobs.getn(1, timeout=0):  # none, if the workers were faster
                    if event.source == PORT_SOURCE_ALERT:
                        return
                    self.do(event)

    def put(self, number: int) -> bool:
        try:
            self.jobs.send(0, number)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            return False
        return True

    def work(self) -> None:
        while (event := self.jobs.get()).source != PORT_SOURCE_ALERT:
            self.do(event)

    def do(self, event: PortEvent) -> None:
        digest = hashlib.sha256(b"%d" % event.user * 10_000).hexdigest()
        self.results.send(RESULT, (event.user, current_thread().name, digest))

    def collect(self, count: int) -> dict[int, tuple[str, str]]:
        """The results by job, as they come in; fewer than `count` if the run is stopped."""
        done: dict[int, tuple[str, str]] = {}
        while len(done) < count:
            for event in self.results.getn(64, nget=1):
                if event.events == STOP:
                    return done
                number, name, digest = event.user
                if number in done:
                    raise RuntimeError(f"job {number} was done twice")
                done[number] = name, digest
        return done


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description="A job queue on one event port.")
    parser.add_argument("--jobs", type=count, default=5000, metavar="N")
    parser.add_argument("--slots", type=count, default=32, metavar="N")
    parser.add_argument("--producers", type=count, default=2, metavar="N")
    parser.add_argument("--workers", type=count, default=4, metavar="N")
    args = parser.parse_args()

    with Port(max_events=args.slots) as jobs, Port(max_events=args.jobs + 64) as results:
        queue = JobQueue(jobs, results)
        stopping = {signal.SIGINT, signal.SIGTERM}
        for which in stopping:
            signal.signal(which, lambda number, frame: results.send(STOP))
        shares = [range(n, args.jobs, args.producers) for n in range(args.producers)]
        threads = [
            Thread(target=queue.produce, args=(share,), name=f"producer {n}")
            for n, share in enumerate(shares)
        ]
        threads += [Thread(target=queue.work, name=f"worker {n}") for n in range(args.workers)]
        # Handlers run in the main thread, which waits in a system call: so the signals must
        # interrupt the main thread and no other. Threads begin with the mask of who starts them.
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
        for thread in threads:
            thread.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
        print(f"{args.producers} producers, {args.workers} workers, {args.slots} slots", flush=True)

        done = queue.collect(args.jobs)
        jobs.alert(STOP)
        for thread in threads:
            thread.join()
        left = jobs.pending()

    print(f"{len(done)} of {args.jobs} jobs done, each once; {left} left in the queue")
    print(f"the queue was full {queue.refused.total()} times")
    for name, number in sorted(Counter(name for name, _ in done.values()).items()):
        print(f"{name}: {number}")
    return 0 if len(done) == args.jobs else 1


if __name__ == "__main__":
    raise SystemExit(main())
