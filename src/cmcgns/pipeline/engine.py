"""Calling Snakemake: the lock first, then what is stale, then the graph. Every way of calling comes through here.

Plain `snakemake` meets `enter` at the top of the Snakefile, which starts this module in its place with the same arguments; it
calls Snakemake again, under the lock. Snakemake places jobs. It decides nothing about what is stale: the outputs of stale jobs
are moved aside before it looks, and whatever is missing is made.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import psutil

from cmcgns.errors import InputError
from cmcgns.files import read_json
from cmcgns.pipeline import history, lock, runs, store
from cmcgns.pipeline.client import VARIABLE
from cmcgns.pipeline.fingerprint import ROOT
from cmcgns.pipeline.gpu import devices
from cmcgns.pipeline.graph import LIST, LOOK, TOKEN, Job, collect, graph_of, without_origins
from cmcgns.pipeline.judge import Takeover, Verdict, judge, takeover, to_run
from cmcgns.pipeline.plan import Plan
from cmcgns.pipeline.price import NOTHING, Price, describe, expected, how_long, makespan, price
from cmcgns.pipeline.record import ENGINE, REVISION
from cmcgns.pipeline.state import STATE, place, revision
from cmcgns.pipeline.watch import Watch

ROUNDS = 8  # calls of Snakemake: what one makes with other bytes than before is read by the jobs of the next
# Of ours what no profile of the user's may change. The lock is another; a half-written file is found by its history.
ALWAYS = ("--rerun-triggers", "mtime", "--nolock", "--ignore-incomplete")
# Snakemake's switches with which it runs nothing.
LOOKS = (
    *("lint", "list_rules", "list_target_rules", "list_untracked", "list_changes", "list_input_changes", "list_params_changes"),
    *("print_compilation", "dag", "rulegraph", "filegraph", "d3dag", "summary", "detailed_summary", "archive", "report"),
    *("unlock", "cleanup_metadata", "cleanup_shadow", "generate_unit_tests", "containerize", "list_conda_envs"),
)  # fmt: skip
# With these it is to run what it would not, or not all; their dry runs are its own.
FORCES = ("forceall", "force", "forcerun", "until", "omit_from", "batch", "touch")
# Of the fork server: a fork copies its table of pages, which is half as long work in large ones. Other systems do not know these names.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONMALLOC": "malloc"}
LOOK_EVERY = 3.0  # s, how far a run is
ENGINE_ITSELF = "itself"  # the first word where this module is to be Snakemake


class Call(NamedTuple):
    """What Snakemake is asked for.

    Attributes:
        arguments: all of its arguments.
        targets: the files and rules among them.
        local: jobs run on this machine.
        forced: they name jobs that are to run whatever has been done.
        cores, gpus: of this machine that the jobs may use.
        quiet: show how far the run is, not what Snakemake says.
    """

    profile: str
    arguments: Sequence[str]
    targets: Sequence[str] = ()
    local: bool = True
    forced: bool = False
    cores: int = os.cpu_count() or 1
    gpus: int = 0
    quiet: bool = False


# ---- in Snakemake's process ----


class _Ancient(dict[str, Any]):
    """Every input of every rule: its time of change says nothing about what is stale."""

    def get(self, rule: str, default: Any = None) -> Any:
        return self

    def __contains__(self, item: object) -> bool:
        return True


def enter(workflow: Any) -> None:
    """The first thing in the Snakefile: goes on only in a process that this module has started."""
    workflow.workflow_settings.consider_ancient = _Ancient()
    if not workflow.is_main_process:
        return  # a job on its node
    token = os.environ.get(TOKEN, "")
    if token == LIST:
        _end_with_parent()
        collect()
    elif token != LOOK and not lock.is_ours(token):
        if Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
            sys.exit(
                "cmcgns: this workflow is started by `cmcgns reproduce` or `snakemake`, so that its lock is held"
            )
        for thing in gc.get_objects():  # Snakemake removes them when it ends, which this process does not
            if isinstance(thing, tempfile.TemporaryDirectory):
                thing.cleanup()
        os.execv(sys.executable, [sys.executable, "-m", "cmcgns.pipeline.engine", *sys.argv[1:]])


def start_server(workflow: Any) -> None:
    """When jobs begin: the process that forks them, if they run on this machine."""
    token = os.environ.get(TOKEN, "")
    if token in (LOOK, LIST):
        raise InputError("this process was started to look, not to run")
    if not workflow.local_exec:
        for name in (VARIABLE, ENGINE, "TMPDIR"):  # these are of this machine
            os.environ.pop(name, None)
        return
    os.environ[ENGINE] = str(os.getpid())
    if address := os.environ.get(VARIABLE):
        # out of the terminal's reach; it ends, and its jobs with it, when the pipe to this process breaks
        command = [sys.executable, "-m", "cmcgns.pipeline.fork_server", address]
        server = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.PIPE, env=os.environ | LARGE_PAGES
        )
        lock.join(token, server.pid)


def _end_with_parent() -> None:
    """The process that called Snakemake waits for it; when it is killed, nobody does."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()


# ---- the process that calls it ----


def run(call: Call, *, tell: Callable[[str], None] = print) -> int:
    """Make what is stale or missing of what a call asks for; returns the exit status.

    Args:
        tell: gets sentences about what is moved away, and why.

    Raises:
        InputError: another run goes on here, or the rules or settings are wrong.
    """
    source = Path("src/cmcgns")
    if source.is_dir() and source.resolve() != ROOT:
        raise InputError(
            f"the package that runs is {ROOT}, not this folder's", file=source,
            remedy="call the `cmcgns` or `snakemake` of this folder's environment: make setup",
        )  # fmt: skip
    with lock.held(f"profile {call.profile}") as token, _surroundings(call.local):
        return _make(call, token, tell)


def look(profile: str, targets: Sequence[str] = (), *, remember: bool = False) -> tuple[list[Job], Verdict]:
    """The jobs that a run would do, and why; takes no lock and, unless it may remember what it saw, writes nothing."""
    graph = graph_of(profile, targets, remember=remember)
    found = judge(profile, graph.jobs, remember=remember)
    return to_run(graph, found), found


def estimate(call: Call, *, remember: bool = False) -> tuple[Price, Verdict]:
    """What a run would do and how long it would take; like `look` in all else."""
    graph = graph_of(call.profile, call.targets, remember=remember)
    found = judge(call.profile, graph.jobs, remember=remember)
    jobs = to_run(graph, found)
    taken = takeover(jobs, found, local=call.local)
    return price(call.profile, graph.jobs, jobs, found, [*taken.now, *taken.later]), found


def _make(call: Call, token: str, tell: Callable[[str], None]) -> int:
    began, code, worked = time.time(), 0, False
    before: set[str] = set()  # what was to run in the round before
    graph = graph_of(call.profile, call.targets)
    watch = Watch()
    try:
        for number in range(ROUNDS):
            force = call.forced and not number
            found = judge(call.profile, graph.jobs)
            jobs = to_run(graph, found)
            if not jobs and not force:
                break
            if worked and {job.target for job in jobs} == before:
                tell(
                    f"Snakemake has run none of {len(jobs)} jobs that are to run: a switch or your profile of it keeps it from that."
                )
                return 1
            worked, before = True, {job.target for job in jobs}
            _make_room(jobs, found, call.profile, tell)
            taken = takeover(jobs, found, local=call.local)
            jobs = _adopt(jobs, taken, tell)
            if not jobs and not force:
                continue
            if call.quiet:
                asked = price(call.profile, graph.jobs, jobs, found, list(taken.later))
                ours = [*asked.certain, *asked.possible]
                watch = Watch(ours, asked.seconds, expected(asked, call.cores, call.gpus)[1])
                tell(f"{len(ours)} jobs to run. {how_long(asked, call.cores, call.gpus)}")
            # What only has to be there again comes first, by itself: nothing after it has to run if it comes out as it was.
            sound = [job for job in jobs if job.target in found.sound]
            first = without_origins(sound, graph.jobs)
            if again := taken.gates or [file for job in first for file in job.outputs]:
                rest = [word for word in call.arguments if word not in call.targets]
                code = _snakemake(call, [*rest, *again], token, watch)
                if code:
                    break
            if not force and (taken.gates or len(first) < len(sound) or len(sound) == len(jobs)):
                continue
            code = _snakemake(call, call.arguments, token, watch)
            if code:
                break
    finally:
        history.pack(call.profile)
    if code > 128:
        tell("Stopped. What is done is kept; the same command goes on from here.")
    elif code:
        _say_why(call, graph.jobs, began)
    elif not worked or not _ran(graph.jobs, began):
        tell(NOTHING)
    else:
        _keep_run(call, graph.jobs, began)
    return code


def _ran(jobs: Sequence[Job], since: float) -> dict[str, history.Entry]:
    """The jobs that have been done since, or taken over."""
    entries = {job.target: history.local(job.target) for job in jobs}
    return {
        t: e
        for t, e in entries.items()
        if e and max(e["started"], (e.get("adopted") or {}).get("at", 0)) >= since
    }


def _keep_run(call: Call, jobs: Sequence[Job], began: float) -> None:
    """Note what a run has ended with and, for estimates, where its time went."""
    about: dict[str, Any] = {"settings": Plan.load(call.profile).settings.model_dump(mode="json")}
    done = {t: e for t, e in _ran(jobs, began).items() if e["started"] >= began}
    if done and call.local:
        whole, start = time.time() - began, min(e["started"] for e in done.values()) - began
        busy = makespan(
            [j for j in jobs if j.target in done],
            {t: e["seconds"] for t, e in done.items()},
            call.cores,
            call.gpus,
        )
        about |= {
            "seconds": whole,
            "start": start,
            "each": max(0.0, whole - start - busy) / len(done),
            "jobs": len(done),
        }
    runs.keep(call.profile, about)


def _adopt(jobs: Sequence[Job], chosen: Takeover, tell: Callable[[str], None]) -> list[Job]:
    """Take over what others have done of the jobs; returns the rest."""
    lacking: set[str] = set()
    for job, inputs, key in chosen.now.values():
        lost = not lacking.isdisjoint(job.inputs)
        if lost or not store.adopt(job.content, inputs, key, tell):
            lacking.update(job.outputs)
    taken = {job.target for job, _, _ in chosen.now.values() if job.outputs[0] not in lacking}
    if taken:
        tell(f"{len(taken)} jobs were done before: taken over")
    return [job for job in jobs if job.target not in taken]


def _make_room(jobs: Sequence[Job], found: Verdict, profile: str, tell: Callable[[str], None]) -> None:
    """Move the outputs of stale jobs aside, where they are found again if the same job is asked for."""
    for file in (*found.changed, *found.unknown):
        why = "is not what a job has written" if file in found.changed else "was made by no job"
        tell(f"{file} {why}: moved to {history.take_away(file)}")
    for job in jobs:
        if job.target not in found.stale:
            continue
        if entry := found.entries.get(job.target):
            store.put_aside(entry)
        for file in filter(os.path.isfile, job.outputs):
            history.take_away(file)
    known = {file for entry in history.locals_of(profile) for file in history.hashed_files(entry)}
    known |= {file for entry in history.read(profile).values() for file in history.hashed_files(entry)}
    for file in history.foreign(profile, known):
        tell(f"{file} was made by no job: moved to {history.take_away(file)}")


@contextmanager
def _surroundings(local: bool) -> Iterator[None]:
    """What the processes of a run inherit: its revision and, on this machine, its own folder for temporary files.

    What a killed run has left of its folder is removed when the next one starts.
    """
    note, before, folder = STATE / "temporary", dict(os.environ), ""
    with suppress(OSError):
        shutil.rmtree(note.read_text())
    os.environ[REVISION] = json.dumps(revision())
    if local:
        # a socket's name ends at 100 letters
        folder = tempfile.mkdtemp(prefix="cmcgns-", dir=None if len(tempfile.gettempdir()) < 70 else "/tmp")
        note.write_text(folder)
        os.environ |= {"TMPDIR": folder, VARIABLE: f"{folder}/server"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
            note.unlink(missing_ok=True)


def _snakemake(call: Call, arguments: Sequence[str], token: str, watch: Watch | None = None) -> int:
    """Run Snakemake. A signal to this process stops its jobs in order, a second one at once."""
    environment = os.environ | {TOKEN: token, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "cmcgns.pipeline.engine", ENGINE_ITSELF, *ALWAYS, *arguments]
    arrived: list[int] = []
    with _log_of(call).open("w") if call.quiet else nullcontext() as log:
        engine = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def stop(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        with suppress(psutil.Error):
            below = psutil.Process(engine.pid).children(recursive=True)
            if len(arrived) > 1:
                for process in (*below, psutil.Process(engine.pid)):
                    with suppress(psutil.Error):
                        process.kill()
                return
            # to end after its running jobs; with jobs elsewhere, to call them back
            engine.send_signal(signal.SIGTERM if call.local else signal.SIGINT)
            for process in below if call.local else ():
                with suppress(psutil.Error):
                    if "step" in process.cmdline():
                        process.terminate()

    before = {
        number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        with watch.shown() if watch and call.quiet else nullcontext(lambda: None) as look_again:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    code = engine.wait(LOOK_EVERY)
                    break
                look_again()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + arrived[0] if arrived else code if code >= 0 else 128 - code


def _log_of(call: Call) -> Path:
    path = Path("logs", call.profile, "snakemake.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _say_why(call: Call, jobs: Sequence[Job], since: float) -> None:
    """The last thing on the terminal: of each job that has failed its own sentence, and where its log lies."""
    told = False
    for job in jobs:
        failed, running = place("failed", job.target), place("running", job.target)
        said = ""
        if failed.exists() and (note := read_json(failed))["at"] >= since:
            said = note["said"]
        elif running.exists() and read_json(running)["since"] >= since:
            said = "killed while it ran: out of memory, or from outside"
            running.unlink()
        if said:
            print(f"\n{job.rule}: {job.target}\n  {said}\n  log: {job.log}", file=sys.stderr, flush=True)
            told = True
    if call.quiet and not told:
        last = _log_of(call).read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        print(*last, f"log: {_log_of(call)}", sep="\n", file=sys.stderr, flush=True)


def itself(arguments: list[str]) -> int:
    """Snakemake's own command line, but for its limit of jobs a second, which that cannot take away.

    Each look at the ready jobs would ask for another one a second later: after some hundred jobs it takes a core from them.
    """
    from snakemake.cli import args_to_api, parse_args
    from snakemake.exceptions import print_exception

    try:
        parser, asked = parse_args(arguments)
        if asked.executor in (None, "local"):
            _end_with_parent()
            asked.max_jobs_per_timespan = None
            # without that timer the next look is at a job's end: one look must fill all cores
            asked.scheduler_subsample = max(asked.scheduler_subsample or 0, 4 * (os.cpu_count() or 1))
        return 0 if args_to_api(asked, parser) else 1
    except Exception as error:  # as Snakemake's own entry point does
        print_exception(error)
        return 1


def main(arguments: list[str]) -> int:
    """Plain `snakemake`, with any of its arguments."""
    if arguments[:1] == [ENGINE_ITSELF]:
        return itself(arguments[1:])
    from snakemake.cli import parse_args
    from snakemake.settings.enums import RerunTrigger

    _, asked = parse_args(arguments)
    if any(getattr(asked, name, None) not in (None, False, []) for name in LOOKS):
        return _snakemake(Call("", arguments), arguments, LOOK)
    if set(asked.rerun_triggers) != set(RerunTrigger.all()):
        raise InputError(
            "what is stale is decided by this project, not by rerun-triggers",
            remedy="leave --rerun-triggers out of the command and of your Snakemake profile",
        )
    config = dict(text.partition("=")[::2] for text in asked.config or [])
    forced = any(getattr(asked, name, None) for name in FORCES)
    call = Call(
        config.get("profile", "demo"), arguments, sorted(asked.targets),
        asked.executor in (None, "local"), forced, asked.cores or os.cpu_count() or 1, len(devices()),
    )  # fmt: skip
    if asked.dryrun:
        if forced:
            return _snakemake(Call("", arguments), arguments, LOOK)
        print(describe(*estimate(call), call.cores, call.gpus))
        return 0
    return run(call, tell=partial(print, flush=True))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"cmcgns: {error}")
