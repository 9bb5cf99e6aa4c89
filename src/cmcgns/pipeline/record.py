"""Running a job: what it is, whether it has been done already, and what is written down of it when it has ended.

None of this belongs to the code of a job: it hands the document on to `cmcgns.step` as it is.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from importlib.metadata import distributions, version
from typing import Any

from cmcgns.errors import InputError
from cmcgns.files import write_json
from cmcgns.pipeline import gpu, history, store
from cmcgns.pipeline.fingerprint import ROOT, code_of, keep
from cmcgns.pipeline.reads import Reads, contents, write_table
from cmcgns.pipeline.state import file_hash, is_alive, place, prepare, revision
from cmcgns.progress import progress
from cmcgns.step import call, load

REVISION, ENGINE = (
    "CMCGNS_REVISION",
    "CMCGNS_ENGINE",
)  # set by the run: its revision; the process that jobs end with


def run(document: str) -> None:
    """Run a job, or take back what it wrote before, and note its history.

    Raises:
        InputError: what the job says of bad input; a file that it needs is not there; its code is not the graph's.
    """
    job = load(document)
    if job["private"]:
        os.umask(0o077)
    prepare()
    with _noted(job):
        if code_of(job["step"], job["also"]) != job["code"]:
            raise InputError(
                f"the code of {job['step']} in {ROOT} is not the code that the job was planned with",
                remedy="if it was edited meanwhile, start the run again; if this is another copy of the package, use the folder's own",
            )
        for file in history.files_of(job["requires"]):
            _hash(file, job["step"])
        inputs: history.Hashed = {
            name: [[file, _hash(file, job["step"])] for file in history.files_of({"": files})]
            for name, files in job["inputs"].items()
        }
        name = history.identity(job, inputs)
        if store.has_donors() and (taken := store.adopt(job, inputs, store.key_of(name, surroundings(job)))):
            print(
                f"done before with the same code, settings and files: taken over, {taken['adopted']['from']}",
                flush=True,
            )
            return
        if job["gpu"]:
            gpu.claim(job["gpu"])
        started, reads = time.time(), Reads(job["folders"])
        result = _compute(document, job, name, reads)
        if isinstance(result, dict):  # counts and scores, for the log
            print(json.dumps(result, default=str, skipkeys=True), flush=True)
        outputs: history.Hashed = {
            output: [[file, _hash(file, job["step"])] for file in history.files_of({"": files})]
            for output, files in sorted(job["outputs"].items())
        }
        said = {key: job[key] for key in ("step", "code", "settings", "fills", "sources", "shows", "private")}
        took = {"started": round(started, 3), "seconds": round(time.time() - started, 3)}
        target = history.target_of(job)
        found = {"inputs": inputs, "outputs": outputs, "reads": reads.finish(place("reads", target))}
        write_table(place("fills", target), contents(job["fills"]), job["fills"])
        entry = said | found | took | {"identity": name, "made": surroundings(job, _found_device(job))}
        store.note(entry)
        keep(job["code"], job["step"], job["also"])
        store.publish(entry)


def _compute(document: str, job: dict[str, Any], name: str, reads: Reads) -> Any:
    """In this process, or one for each device."""
    if job["gpu"] > 1:
        launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job["gpu"]))
        done = subprocess.run([sys.executable, *launch, "-m", "cmcgns.step", document, name], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
        return None
    with progress(job["step"].rpartition(".")[2].replace("_", " ")) as tick:
        return call(document, progress=tick, read=reads.add, identity=name)


def _hash(file: str, step: str) -> str:
    try:
        return file_hash(file)
    except OSError as error:
        raise InputError(
            f"the file of a job of {step} is not to be had ({error.strerror})", file=file,
            remedy="`cmcgns reproduce` makes what is missing",
        ) from None  # fmt: skip


@contextmanager
def _noted(job: dict[str, Any]) -> Iterator[None]:
    """Leave a note while the job runs, and another one if it fails: what it said last."""
    target = history.target_of(job)
    running, failed = place("running", target), place("failed", target)
    about = {"target": target, "step": job["step"], "pid": os.getpid(), "host": socket.gethostname()}
    write_json(running, about | {"since": time.time()})
    _end_with_engine()
    try:
        yield
        failed.unlink(missing_ok=True)
    except InputError as error:
        write_json(failed, about | {"at": time.time(), "said": f"cmcgns: {error}"})
        raise
    except Exception as error:
        write_json(failed, about | {"at": time.time(), "said": f"{type(error).__name__}: {error}"})
        raise
    finally:
        running.unlink(missing_ok=True)


def _end_with_engine() -> None:
    """A job ends when the process that started its run has: nobody would know of it."""
    engine = os.environ.get(ENGINE)
    if not engine or threading.current_thread() is not threading.main_thread():
        return

    def watch() -> None:
        while is_alive(int(engine)):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)  # a training saves
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def surroundings(job: dict[str, Any], device: str = "") -> dict[str, Any]:
    """Under what a job runs: revision of the folder, versions, threads, and the device that it has found, or would find."""
    known = json.loads(os.environ[REVISION]) if REVISION in os.environ else revision()
    asked = next(
        (s["threads"] for s in (job["settings"], *job["settings"].values()) if "threads" in _dict(s)), None
    )
    threads = asked or job["how"].get("workers", 1)
    device = device or (gpu.device() if job["gpu"] else f"CPU {platform.machine()}")
    return known | versions() | {"device": device, "threads": threads}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _found_device(job: dict[str, Any]) -> str:
    """Asked after a job, not before it: this fixes the GPUs that a process sees."""
    return gpu.found() if job["gpu"] else ""


@cache
def versions() -> dict[str, str]:
    """Of Python and torch, and 16 hex digits over name and version of every package that is installed, whatever a lock says."""
    names = sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()} - {None})
    installed = sha256("\n".join(names).encode()).hexdigest()[:16]
    return {"packages": installed, "python": platform.python_version(), "torch": version("torch")}
