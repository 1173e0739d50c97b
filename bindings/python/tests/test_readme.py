"""The programs of the README run as they are."""

import pathlib
import re
import subprocess
import sys

import pytest
import shmslot

README = pathlib.Path(__file__).parents[1] / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_of_the_readme(program: str, name: str) -> None:
    program = program.replace('"greeting"', repr(name))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in ("b'hello'", "1 7.0")


def test_every_exception_that_the_readme_names_exists() -> None:
    text = README.read_text()
    for word in re.findall(r"`([A-Z][a-zA-Z]+)`", text):
        assert hasattr(shmslot, word) or hasattr(__builtins__, word) or word in KNOWN, word


KNOWN = {
    "BufferError", "CreateOptions", "AttachOptions", "EOFError", "FileNotFoundError", "None",
    "False", "ResourceWarning", "TimeoutError", "ValueError",
}  # fmt: skip
