"""A real Prefect server, as infra/README.md starts one: what the tests of flows and deployments talk to."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from tests.flows.conftest import ROOT, end_process, environment, free_port, wait_for

PREFECT = str(Path(sys.executable).with_name("prefect"))
SERVER_START_S = 120.0
PROMPT = {
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""Seconds after which the server writes down what it would else write down after 5: the tests wait for it.
Whole ones: of less it makes 0, and is busy all the time."""


@dataclass(frozen=True)
class Server:
    """A running server: its API's address, the environment of its clients, and the process."""

    api: str
    variables: dict[str, str]
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, home: Path) -> Self:
        """One that answers; `end` it. Its database and its log are in `home`."""
        port = free_port()
        api = f"http://127.0.0.1:{port}/api"
        variables = environment(PREFECT_HOME=str(home), PREFECT_API_URL=api, COLUMNS="200", **PROMPT)
        with (home / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
                env=variables,
                cwd=home,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def answers() -> bool:
            assert process.poll() is None, (home / "server.log").read_text()
            try:
                return httpx.get(f"{api}/health", timeout=5).status_code == 200
            except httpx.HTTPError:
                return False

        found = cls(api, variables, process)
        try:
            wait_for("the Prefect server", answers, SERVER_START_S)
        except BaseException:
            found.end()
            raise
        return found

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        if self.is_running:
            end_process(self.process)

    def ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
        answer = httpx.request(method, f"{self.api}{path}", json=content, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def prefect(self, *words: str, **variables: str) -> str:
        """The command `prefect`; fails the test where it fails."""
        done = subprocess.run(
            [PREFECT, *words],
            env={**self.variables, **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"prefect {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def runs(self, deployment: str, kind: str) -> list[dict[str, Any]]:
        """Runs of a deployment whose state is of a type such as SCHEDULED, the soonest first."""
        wanted = {
            "deployments": {"id": {"any_": [self.ask("GET", f"/deployments/name/{deployment}")["id"]]}},
            "flow_runs": {"state": {"type": {"any_": [kind]}}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        return list(self.ask("POST", "/flow_runs/filter", wanted))
