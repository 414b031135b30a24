from __future__ import annotations

import os
import pty
import signal
import sys
import termios

_DRAWN_OVER = """
import sys, threading, time
from flatpack_build.terminal import TERMINAL
from flatpack_build.views import view_for

early, late = view_for(sys.stdout), None
early.start("compress:chat@pi5")
early.progress("compress:chat@pi5", 1, 2, "files")
with TERMINAL.to_ask():
    late = view_for(sys.stdout)
    print("[asking", end="", flush=True)
    early.line("a line that waits")
    late.start("pack:chat@pi5")
    early.progress("compress:chat@pi5", 2, 2, "files")
    time.sleep(0.5)  # a display redraws itself ten times a second
    print("asked]", flush=True)
early.close()
late.close()
print("ended", flush=True)
"""

_IN_A_THREAD = """
import os, threading
from flatpack_build.box.passphrase import terminal_prompt

threading.Thread(target=terminal_prompt(), args=("Passphrase: ",), daemon=True).start()
threading.Event().wait()
"""


def _spawn(code: str) -> tuple[int, int]:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", code], {**os.environ, "TERM": "xterm"})
    return pid, terminal


def _until(terminal: int, sign: bytes) -> bytes:
    seen = b""
    while sign not in seen:
        seen += os.read(terminal, 1000)
    return seen


def test_nothing_is_drawn_over_a_question() -> None:
    pid, terminal = _spawn(_DRAWN_OVER)
    seen = _until(terminal, b"ended")
    os.close(terminal)
    os.waitpid(pid, 0)
    before, _, after = seen.partition(b"[asking")
    during, _, after = after.partition(b"asked]")
    assert b"compress:chat@pi5" in before
    assert during == b""
    assert b"a line that waits" in after and b"pack:chat@pi5" in after


def test_what_is_typed_shows_again_after_ctrl_c() -> None:
    pid, terminal = _spawn(_IN_A_THREAD)
    _until(terminal, b"Passphrase: ")
    assert not termios.tcgetattr(terminal)[3] & termios.ECHO
    os.kill(pid, signal.SIGINT)
    _until(terminal, b"KeyboardInterrupt")
    os.waitpid(pid, 0)
    assert termios.tcgetattr(terminal)[3] & termios.ECHO
    os.close(terminal)
