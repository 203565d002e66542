import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dillema.config import conf_dir
from dillema.stops import STOPPED

ROOT = Path(__file__).parents[1]


@pytest.fixture
def dillema(tmp_path):
    def run(*arguments, **environment):
        """Runs the command in an empty folder."""
        env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        return subprocess.run(
            [sys.executable, "-m", "dillema", *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
        )

    return run


def test_help_lists_the_options_of_each_group_and_the_cost(dillema):
    done = dillema("--help")
    assert done.returncode == 0
    for group in (folder for folder in conf_dir().iterdir() if folder.is_dir()):
        options = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
        assert f"\n{group.name}: {options}\n" in done.stdout
    assert "2 minutes" in done.stdout and "4 GB" in done.stdout


def test_help_lists_options_of_ones_own_too(dillema, tmp_path):
    own = tmp_path / "conf" / "dataset" / "of_ours.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("limit: 3\n")
    assert "mini_shift, of_ours, shift\n" in dillema("-h").stdout


def test_the_configuration_can_be_shown_from_any_folder(dillema, tmp_path):
    done = dillema("--cfg", "job", "--resolve")
    assert done.returncode == 0, done.stderr
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("plus", ["+", ""])
def test_two_mistakes_are_both_named_alone_and_leave_no_folder(dillema, tmp_path, plus):
    done = dillema(f"{plus}llm.temprature=1", f"{plus}generator.stepz=2")
    assert done.returncode == 1
    assert "did you mean llm.temperature?" in done.stderr and "did you mean generator.steps?" in done.stderr
    assert len(done.stderr.splitlines()) == 3 and not done.stdout
    assert not list(tmp_path.iterdir())


def test_an_unknown_option_is_answered_with_the_known_ones(dillema):
    done = dillema("llm=gpt")
    assert done.returncode == 1
    assert "llm=gpt: there is no such option" in done.stderr and "smollm2" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_our_own_errors_leave_a_traceback_on_the_screen_and_in_the_log(dillema, tmp_path):
    (tmp_path / "broken.py").write_text("def job(context):\n    return 1 / context.cfg.seed\n")
    done = dillema("job._target_=broken.job", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError") == 1 and "in job" in done.stderr
    (log,) = tmp_path.glob("outputs/*/*/dillema.log")
    assert "ZeroDivisionError" in log.read_text()


def test_one_failing_run_of_a_sweep_leaves_the_others_alone(dillema, tmp_path):
    (tmp_path / "picky.py").write_text("def job(context):\n    print('result', 6 // context.cfg.seed)\n")
    done = dillema("-m", "job._target_=picky.job", "seed=0,1,2", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert done.returncode == 1
    assert "result 6" in done.stdout and "result 3" in done.stdout
    assert len(list(tmp_path.glob("multirun/*/*/*/dillema.log"))) == 3


def test_mistakes_in_the_values_of_a_job_are_named_with_all_others(dillema):
    done = dillema("job=retrain", "job.steps=0", "job.share=2", "+llm.temprature=1")
    assert done.returncode == 1 and not done.stdout
    for mistake in (
        "job.steps: must be a whole number of at least 1, not 0",
        "job.share: must be a number above 0 and 1 at most, not 2",
        "did you mean llm.temp",
    ):
        assert mistake in done.stderr
    assert len(done.stderr.splitlines()) == 4


def test_the_command_that_fetches_what_a_job_lacks_names_no_other_job(dillema, tmp_path):
    lost = ("dataset.limit=2", "captioner.model=someone/lost")
    done = dillema("job=retrain", "job.steps=1", *lost, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 1 and f"needs: python -m dillema job=prefetch {' '.join(lost)}\n" in done.stderr


def begin_job(folder, source):
    """Returns the process of a job with this source, which has printed that it has begun."""
    (folder / "slow.py").write_text(source)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    command = [sys.executable, "-m", "dillema", "job._target_=slow.job"]
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize(
    ("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_run_that_is_asked_to_stop_says_so_and_how_to_go_on(tmp_path, signal_number, code):
    source = "import time\ndef job(context):\n    print('begun', flush=True)\n    time.sleep(60)\n"
    process = begin_job(tmp_path, source)
    start = time.monotonic()
    process.send_signal(signal_number)
    _, errors = process.communicate()
    assert (
        process.returncode == code
        and "the same command goes on from here" in errors
        and "Traceback" not in errors
    )
    assert time.monotonic() - start < 3


LOSING = """
import time

def job(context):
    print("begun", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise ValueError("lost")
"""


def test_a_stop_that_a_library_takes_for_an_error_is_still_one(tmp_path):
    (tmp_path / "losing.py").write_text(LOSING)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-m", "dillema", "job._target_=losing.job"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143 and STOPPED in errors and "lost" not in errors


BUSY = """
import atexit, threading, time

def job(context):
    atexit.register(lambda: print("cleaned up", flush=True))
    atexit.register(time.sleep, {clean_up})
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("clean_up", "said"), [(0, "cleaned up\n"), (60, "")])
def test_a_run_that_is_stopped_waits_for_no_thread_and_for_no_library(tmp_path, clean_up, said):
    process = begin_job(tmp_path, BUSY.format(clean_up=clean_up))
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert (process.returncode, output, errors.count(STOPPED)) == (130, said, 1)
    assert time.monotonic() - start < 30  # a second and a little; on a busy machine more


HOOK = """
import os, signal, sys, time

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "{name}":
            print("begun", flush=True)
            time.sleep(10)

sys.meta_path.insert(0, Hook())
"""


@pytest.mark.parametrize("name", ["hydra", "omegaconf", "dillema.config", "dillema.overrides"])
@pytest.mark.parametrize(
    ("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_command_that_is_stopped_while_it_imports_says_so_too(tmp_path, name, signal_number, code):
    (tmp_path / "sitecustomize.py").write_text(HOOK.format(name=name))
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "dillema", "--help"],
        cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=5)
    assert (process.returncode, errors.splitlines()) == (code, [STOPPED])


def test_what_nohup_switches_off_stays_so(tmp_path):
    code = "import signal; signal.signal(1, signal.SIG_IGN); from dillema.stops import *; "
    code += "handle_signals(raise_stopped); assert signal.getsignal(1) is signal.SIG_IGN"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dataset=folder", "dataset.root=lost"), "no data in "),
        (("job=judge", "run=outputs/latest"), "outputs/latest holds no finished run"),
        (("init", "lost"), "lost: there is no such folder"),
        (("-m", "seed=0,1", "generator.steps=3,0", "llm.temprature=1,2"), "2 mistakes"),
    ],
)
def test_a_refused_command_leaves_no_folder(dillema, tmp_path, arguments, message):
    done = dillema(*arguments)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_command_that_lacks_weights_leaves_no_folder_and_no_link(dillema, tmp_path):
    lost = ("dataset.limit=2", "validity=none", "captioner.model=someone/lost")
    done = dillema(*lost, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 1 and "captioner.model=someone/lost" in done.stderr
    assert {path.name for path in (tmp_path / "outputs").iterdir()} <= {"store", "mlflow.db", "artifacts"}


def test_the_log_of_a_folder_that_is_used_again_is_of_its_last_run(dillema, tmp_path):
    (tmp_path / "plain.py").write_text(
        "import logging\ndef job(context):\n    logging.getLogger('dillema').info(str(context.cfg.seed))\n"
    )
    for seed in (1, 2):
        path = f"{ROOT}{os.pathsep}{tmp_path}"
        done = dillema("job._target_=plain.job", "hydra.run.dir=fixed", f"seed={seed}", PYTHONPATH=path)
        assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "fixed" / "dillema.log").read_text().splitlines()
    assert line.endswith("dillema: 2")


def test_a_failed_job_never_removes_the_working_folder(tmp_path, monkeypatch):
    from dillema.command import _remove_if_empty

    own = tmp_path / "work" / "job"
    own.mkdir(parents=True)
    for folder in (tmp_path / "work", own):
        (folder / "dillema.log").touch()
    monkeypatch.chdir(own.parent)
    _remove_if_empty(own)
    assert not own.exists()
    _remove_if_empty(own.parent)
    assert (own.parent / "dillema.log").exists()
