"""Studies in worker processes, which are killed in the middle."""

import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.discrete import engine, executors
from jnas.errors import JnasError

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import remote
from test_discrete_study import equal, rows

COUNT = 12


def pid_of(row):
    return int(row["worker"].rsplit(":", 1)[1])


class Killer:
    """Kills the worker of the third result, while others still work."""

    def __init__(self):
        self.killed = None
        self.seen = []

    def __call__(self, row):
        self.seen.append(row)
        if len(self.seen) == 3:
            self.killed = pid_of(row)
            os.kill(self.killed, signal.SIGKILL)


def check(killer, trials, workdir):
    """No trial is lost, and all are those of a run in this process."""
    assert killer.killed not in (None, os.getpid())
    told = [r["id"] for r in rows(workdir, "tell")]
    assert sorted(told) == list(range(COUNT))
    assert len({pid_of(r) for r in killer.seen}) >= 2
    assert killer.killed not in {pid_of(r) for r in killer.seen[-COUNT // 3 :]}
    assert not trials.errors
    equal(trials, remote.run(None, 0, batch=6))


def test_processes_that_are_killed_lose_no_trial(tmp_path):
    killer = Killer()
    trials = remote.run(
        tmp_path, 0.2, batch=6, executor="processes", parallel=2, progress=killer
    )
    check(killer, trials, tmp_path)
    assert any("lost" in r for r in rows(tmp_path, "tell"))


def test_dask_workers_that_are_killed_lose_no_trial(tmp_path):
    pytest.importorskip("distributed")
    killer = Killer()
    options = {"batch": 6, "executor": None, "progress": killer}
    with discrete.dask_executor(workers=2) as options["executor"]:
        trials = remote.run(tmp_path, 0.3, **options)
        check(killer, trials, tmp_path)
        # Told as they come, by the same workers: other trials, and none is lost.
        free = remote.run(
            None, 0.01, batch=None, asynchronous=True, parallel=2,
            executor=options["executor"],
        )  # fmt: skip
    assert sorted(free.ids.tolist()) == list(range(COUNT))
    noise = free.scores - remote.score(free.genes)
    assert np.abs(noise).max() < 1


def test_dask_executor_refuses_what_does_not_apply(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(JnasError, match=r"pip install 'jnas\[dask\]'"),
        discrete.dask_executor(),
    ):
        pass


def test_a_scheduler_that_is_not_there_is_told():
    pytest.importorskip("distributed")
    with (
        pytest.raises(JnasError, match="no Dask scheduler can be reached at nowhere"),
        discrete.dask_executor("nowhere"),
    ):
        pass


def test_a_candidate_that_kills_its_worker_fails_alone(tmp_path):
    trials = discrete.study(
        discrete.random_search(remote.SPACE),
        remote.Slow(dies=2).objective(),
        evaluations=8,
        batch=8,
        seed=1,
        workdir=tmp_path,
        executor="processes",
        parallel=2,
        retries=1,
    )
    deadly = trials.genes[:, 0] == 2
    assert 0 < deadly.sum() < 4
    np.testing.assert_array_equal(np.isnan(trials.scores), deadly)
    np.testing.assert_array_equal(
        trials.scores[~deadly], remote.score(trials.genes[~deadly])
    )
    assert all("its worker died, 2 times" in text for text in trials.errors.values())


def test_asynchronous_tells_as_they_come_and_resumes(tmp_path):
    class Late(concurrent.futures.ThreadPoolExecutor):
        """The first job takes longest."""

        def submit(self, function, shared, seed, job):
            def late():
                time.sleep(0.3 if job.ids[0] == 0 else 0.01)
                return function(shared, seed, job)

            return super().submit(late)

    with Late(2) as executor:
        options = {"batch": None, "asynchronous": True, "parallel": 2}
        options["executor"] = executor
        trials = remote.run(tmp_path, 0, **options)
        assert trials.ids[0] == 1 and sorted(trials.ids.tolist()) == list(range(COUNT))
        asked = [r["ids"] for r in rows(tmp_path, "ask")]
        assert asked == [[i] for i in range(COUNT)]
        text = (tmp_path / "trials.jsonl").read_text().splitlines(keepends=True)
        equal(trials, remote.run(tmp_path, 0, **options))
        # 5 lines: more asked than told
        (tmp_path / "trials.jsonl").write_text("".join(text[:5]))
        again = remote.run(tmp_path, 0, **options)
        assert sorted(again.ids.tolist()) == list(range(COUNT))
        new = (tmp_path / "trials.jsonl").read_text().splitlines(keepends=True)
        assert new[:5] == text[:5]


class Flaky(concurrent.futures.Executor):
    """Loses some of what it gets, as a cluster whose workers come and go."""

    def __init__(self, lose, error):
        self.lose, self.error, self.calls = lose, error, 0

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        self.calls += 1
        if self.lose(self.calls):
            future.set_exception(self.error)
        else:
            future.set_result(function(*arguments))
        return future


class KilledWorker(Exception):
    """Named as distributed's."""


def test_lost_trials_are_submitted_again(tmp_path):
    flaky = Flaky(lambda call: call % 3 == 0, concurrent.futures.CancelledError())
    trials = remote.run(tmp_path, 0, executor=flaky)
    equal(trials, remote.run(None, 0))
    assert flaky.calls > COUNT
    assert sum(r.get("lost", 0) for r in rows(tmp_path, "tell")) == flaky.calls - COUNT


def test_a_cluster_that_is_gone_stops_the_study_and_loses_nothing(tmp_path):
    flaky = Flaky(lambda call: call > 5, OSError("no route"))
    with pytest.raises(JnasError, match=r"lost a trial 4 times .OSError: no route"):
        remote.run(tmp_path, 0, executor=flaky)
    assert len(rows(tmp_path, "tell")) == 5
    equal(remote.run(tmp_path, 0), remote.run(None, 0))


def test_killed_workers_are_counted():
    flaky = Flaky(lambda call: call <= 3, KilledWorker("task", "worker"))
    trials = remote.run(None, 0, batch=1, executor=flaky, retries=2)
    assert list(trials.errors) == [0] and "3 times" in trials.errors[0]


def test_a_last_attempt_runs_alone():
    together = []

    class Counting(Flaky):
        def submit(self, function, shared, seed, job):
            together.append((job.ids, len(pump._running)))
            return super().submit(function, shared, seed, job)

    def lose(call):
        ids = [ids for ids, _ in together]
        return ids[-1] == (1,) and ids.count((1,)) <= 2

    flaky = Counting(lose, KilledWorker())
    shared = engine.Shared("alone", remote.Slow().objective())
    pump = engine.Pump(shared, 0, flaky, limit=3, retries=2)
    genes = np.zeros((1, 6), np.int32)
    for i in range(7):
        pump.add(engine.Job((i,), genes, np.ones(1, np.float32)))
    done = []
    while pump.open:
        done += pump.next()
    lost = {job.ids[0]: n for job, _, n in done}
    assert lost == {i: 2 * (i == 1) for i in range(7)} and len(done) == 7
    # (id, how many run beside it when it is submitted)
    beside = [(ids[0], running) for ids, running in together]
    first, second, alone, rest = beside[:3], beside[3:6], beside[6], beside[7:]
    assert first == [(0, 0), (1, 1), (2, 2)] and second == [(1, 0), (3, 1), (4, 2)]
    assert alone == (1, 0) and rest == [(5, 0), (6, 1)]


def test_a_user_s_broken_pool_is_told():
    class Broken(concurrent.futures.Executor):
        def submit(self, *arguments):
            raise concurrent.futures.BrokenExecutor("gone")

    with pytest.raises(JnasError, match=r"takes no work .BrokenExecutor: gone"):
        remote.run(None, 0, executor=Broken())


def test_what_can_t_travel_is_told_at_once():
    def evaluate(genes, key, fidelity):
        return genes.sum(-1), fidelity

    with pytest.raises(JnasError, match=r"can't be sent .*built_by"):
        discrete.study(
            discrete.random_search(remote.SPACE),
            discrete.Objective(remote.SPACE, evaluate, "local"),
            evaluations=1,
            executor="processes",
        )


def test_a_worker_keeps_one_copy_of_an_objective():
    import pickle

    shared = engine.Shared("copy", remote.Slow().objective())
    one, other = (pickle.loads(pickle.dumps(shared)) for _ in range(2))
    assert one is other and one is not shared
    assert one.objective.evaluate.__self__ == remote.Slow()


def test_built_by_builds_once_a_process():
    objective = discrete.built_by(remote.counting, start=10)
    genes = np.zeros((1, 6), np.int32)
    assert [float(objective(genes)[0]) for _ in range(2)] == [11, 12]
    trials = discrete.study(
        discrete.random_search(remote.SPACE),
        objective,
        evaluations=3,
        executor="processes",
    )
    np.testing.assert_array_equal(trials.scores, [11, 12, 13])
    with pytest.raises(JnasError, match="must be hashable"):
        discrete.built_by(remote.counting, start=[1])
    with pytest.raises(JnasError, match=r"must return a jnas\.Objective"):
        discrete.built_by(dict, start=1)


def test_a_script_without_a_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from jnas.discrete import executors\nexecutors.processes(1)()\n")
    run = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(jnas.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode and "if __name__ == '__main__':" in run.stderr


def test_workers_end_with_a_study_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import remote\n"
        "if __name__ == '__main__':\n"
        "    remote.run(sys.argv[2], 0.1, executor='processes', parallel=2)\n"
    )
    folder = pathlib.Path(remote.__file__).parent
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(tmp_path / "study")],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(jnas.__file__).parents[1])},
    )
    path = tmp_path / "study" / "trials.jsonl"
    end = time.monotonic() + 120
    while not path.exists() or path.read_text().count('"tell"') < 3:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    workers = {pid_of(r) for r in map(json.loads, path.read_text().splitlines()[:-1])
               if r["event"] == "tell"}  # fmt: skip
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < end, "workers outlive their study"
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody waits for is a zombie.
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_ending_at_once_ends_what_works():
    pool = executors.processes(1)()
    future = pool.submit(time.sleep, 600)
    executors.end(pool, at_once=True)
    lost = (concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError)
    with pytest.raises(lost):
        future.result(timeout=60)
