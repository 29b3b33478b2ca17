"""The README's programs are the files under examples/, and they do what it says."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NATS_SERVER = os.environ.get("PICOM_NATS_SERVER", str(ROOT / ".venv/bin/nats-server"))
BLOCK = re.compile(r"<!-- (examples/\S+) -->\n```\w+\n(.*?)```\n", re.DOTALL)
DEADLINE = 30


@pytest.fixture(scope="module")
def server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [NATS_SERVER, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    give_up = time.monotonic() + DEADLINE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < give_up, "no nats-server"
    yield f"nats://127.0.0.1:{port}"
    process.terminate()
    process.wait(DEADLINE)


@pytest.fixture
def project(tmp_path):
    """An empty folder of a user's, with the package installed."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/picom").symlink_to(ROOT / "bindings/node")
    for program in (ROOT / "examples/node").glob("*.js"):
        shutil.copy(program, tmp_path)
    return tmp_path


def start(command, cwd, ready):
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == ready
    return process


def stop(process, with_signal):
    process.send_signal(with_signal)
    assert process.wait(DEADLINE) == 0


def run(command, cwd=ROOT):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rust(name):
    return str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / name)


def test_the_blocks_of_the_readme_are_the_files():
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) == 5
    for path, text in blocks:
        assert text == (ROOT / path).read_text(), f"README.md shows another {path}"


def test_the_table_of_errors_is_the_code():
    source = (ROOT / "picom-core/src/error.rs").read_text()
    kinds = re.findall(r'^    (\w+) = (\d+), "(\w+)";', source, re.MULTILINE)
    assert kinds
    rows = re.findall(
        r"^\| (\d+) \| `PICOM_(\w+)` \| `(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert [(number, name, variant) for variant, number, name in kinds] == rows
    types = (ROOT / "bindings/node/index.d.ts").read_text()
    assert re.findall(r"'PICOM_(\w+)'", types) == [name for _, _, name in kinds]


def test_node_service_with_callers_in_node_and_rust(server, project):
    service = start(["node", "service.js", server], project, "orders: ready")
    out = run(["node", "caller.js", server], project)
    assert "node caller: ordered { item: 'apple', count: 3, total: 1.5 }" in out
    assert "refused: Not enough of pear {\"left\":0} PICOM_HANDLER_FAILED { left: 0 }" in out
    assert "nobody there: PICOM_NO_RESPONDER" in out
    out = run([rust("caller"), server])
    assert 'ordered Receipt { item: "apple", count: 3, total: 1.5 }' in out
    assert 'refused: Not enough of pear {"left":0}' in out
    stop(service, signal.SIGTERM)


def test_rust_service_with_a_caller_in_node(server, project):
    service = start([rust("service"), server], ROOT, "math: ready")
    program = (
        "const p = new (require('picom'))('x', { servers: process.argv[1] });"
        "p.request('math.add', { a: 1, b: 2 }).then((sum) => { console.log(sum);"
        "return p.request('math.divide', { a: 1, b: 0 }); })"
        ".catch((error) => console.log(error.message)).then(() => p.close());"
    )
    assert run(["node", "-e", program, server], project) == "3\ndivision by zero\n"
    stop(service, signal.SIGINT)


def test_one_process_without_a_server(project):
    out = run(["node", "one-process.js"], project)
    assert out == (
        "ordered { item: 'apple', count: 3, total: 1.5 }\n"
        "refused: We do not sell plum PICOM_HANDLER_FAILED\n"
    )
