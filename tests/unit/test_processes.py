"""What the system tells of a process: who it is, and how much it worked.

Which processes count as a server's, and how they are ended, is in test_records.
"""

import os
import subprocess
import sys
import time

import psutil
import pytest

from helpers.server import processes

ODD_NAME = "a) Z 1 (b"  # stands in /proc/PID/stat before the other fields, in parentheses
WORKS = """
import os, time
if os.fork() == 0:
    begun = time.process_time()
    while time.process_time() - begun < 1: pass
    os._exit(0)
os.wait()
print("done", flush=True)
time.sleep(600)
"""


def test_a_start_is_counted_from_the_boot_of_the_machine(tmp_path):
    program = tmp_path / ODD_NAME
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "600"]) as process:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        ticks = processes.start_ticks(process.pid)
        same = [processes.is_same_process(process.pid, ticks + more) for more in (0, 1)]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.start_ticks(process.pid) is None, "a zombie does not live"
    assert ticks / os.sysconf("SC_CLK_TCK") == pytest.approx(now, abs=5)
    assert same == [True, False]
    assert processes.start_ticks(process.pid) is None
    assert not processes.is_same_process(process.pid, ticks)


def test_the_work_of_a_child_still_counts_when_the_child_has_ended():
    command = [sys.executable, "-c", WORKS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        done = process.stdout.readline()
        worked = processes.cpu_seconds([psutil.Process(process.pid)])
        process.kill()
    assert done == "done\n" and worked > 0.9


def test_a_process_that_is_gone_has_done_nothing():
    gone = psutil.Popen(["true"])
    gone.wait()
    assert processes.cpu_seconds([gone]) == 0
    assert not processes.listens_on([gone], 8000)
