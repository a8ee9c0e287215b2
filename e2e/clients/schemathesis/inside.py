"""Asks every service of a cluster what its own OpenAPI document allows, with the certificate of a process that may
ask it, and takes no other answer than the document allows; afterwards the cluster must still run a job.

    inside.py DATA ADDRESS [EXAMPLES [SEED]]     DATA: directory of `steppe local up`; by hand: more examples, another seed
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import requests
from day import CHECKS, DOCUMENTS, HELLO, HERE, await_output

# (who is asked, whose certificate is shown)
ASKED = [
    ("state-2", "gateway-1"),
    ("state-1", "applier-1"),
    ("broker-1", "scheduler-1"),
    ("applier-1", "scheduler-1"),
    ("controller-1", "gateway-1"),
    ("scheduler-1", "gateway-1"),
    ("gateway-1", "agent-1"),
]
# Not asked: what would take the group of state servers apart for who is trusted to, and what has no end.
APART = r"/v1/internal/raft/(rpc|peers|dismissed)"
ENDLESS = r"/v1/internal/(feed|raft/watch|sessions$|streams?$)"


# 503 and 504 are said by design (not the active one, not that far): what must not be is 500.
SETTINGS = f"""hooks = "{HERE / "inside_hooks.py"}"
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 503, 504]
"""


def serves_at(data, name):
    started = re.findall(r"service started .*?\baddr=(\S+)", (data / name / "log").read_text())
    return started[-1]


def ask(data, name, caller, examples, seed, at):
    service = name.rsplit("-", 1)[0]
    document = json.loads((DOCUMENTS / f"{service}.json").read_text())
    if service == "gateway":
        document["paths"] = {path: item for path, item in document["paths"].items() if path.startswith("/v1/internal")}
    written = Path(at) / f"{service}.json"
    written.write_text(json.dumps(document))
    identity = data / caller / "identity"
    both = Path(at) / f"{caller}.pem"
    both.touch(mode=0o600)
    both.write_text((identity / "cert.pem").read_text() + (identity / "key.pem").read_text())
    command = [Path(sys.executable).with_name("schemathesis"), "run", written, "--url", f"https://{serves_at(data, name)}"]
    command += ["--tls-verify", "false", "--request-cert", both, "--checks", ",".join(CHECKS), "--phases", "examples,fuzzing"]
    command += ["--max-examples", examples, "--seed", seed, "--exclude-path-regex", f"{APART}|{ENDLESS}", "--no-color"]
    command += ["--continue-on-failure", "--no-shrink", "--generation-database", "none", "--request-timeout", "60"]
    command += ["--workers", "1", "--warnings", "off"]
    print(f"--- {name}, asked by {caller}", flush=True)
    return subprocess.run([*map(str, command)], cwd=at, check=False).returncode == 0


def main(data, address, examples="8", seed="1"):
    with tempfile.TemporaryDirectory() as at:
        (Path(at) / "schemathesis.toml").write_text(SETTINGS)
        asked = [ask(Path(data), name, caller, examples, seed, at) for name, caller in ASKED]
    # Nothing of it may have hurt.
    requests.put(address + "/v1/jobs", json={"Job": HELLO}, timeout=30).raise_for_status()
    await_output(address)
    sys.exit(not all(asked))


if __name__ == "__main__":
    main(*sys.argv[1:])
