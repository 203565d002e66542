"""The connection to MLflow."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..passwords import HIDDEN, lacks_password
from .pending import lock_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
ADDRESS_VARIABLE = "MLFLOW_TRACKING_URI"
POSTGRESQL = ("postgresql://", "postgresql+")
TABLES_LOCK = 0x64696C6C  # any number that all processes agree on
# by default, MLflow waits for a server for minutes
TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
LOG_LEVELS = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "urllib3.connectionpool": logging.ERROR}


def connect(uri: str) -> "MlflowClient":
    """Returns a client that gives up quickly if the server is unreachable.

    Environment variables of MLflow for time-outs have priority. Creates a missing SQLite database. Raises a
    UserError for one that cannot be used, and for an address whose password was replaced.
    """
    if lacks_password(uri):
        raise UserError(
            f"no file keeps the password of {uri}. Repeat job=sync with 'tracking.uri={uri}' and the "
            f"password in place of {HIDDEN}, or with that address in the environment variable "
            f"{ADDRESS_VARIABLE}"
        )
    for name, value in ({"MLFLOW_DISABLE_TELEMETRY": "true"} | TIMEOUTS).items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for logger, level in LOG_LEVELS.items():
        logging.getLogger(logger).setLevel(level)
    if uri.startswith(SQLITE):
        _prepare_database(uri)
    elif uri.startswith(POSTGRESQL):
        _create_tables(uri)
    return MlflowClient(uri)


def absolute(uri: str) -> str:
    """Returns an address of MLflow that does not depend on the working folder of the process."""
    if not uri.startswith(SQLITE):
        return uri
    path = Path(uri.removeprefix(SQLITE)).expanduser()
    if path.is_absolute():
        return f"{SQLITE}{path}"
    # a percent sign is escaped in an address, but not in the name of a folder
    working_folder = str(Path.cwd()).replace("%", "%25")
    return f"{SQLITE}{working_folder}/{path}"


def artifact_location(artifacts: str) -> str:
    """Returns the address of the folder for files; it does not depend on the working folder."""
    return artifacts if "://" in artifacts else Path(artifacts).expanduser().resolve().as_uri()


def run_address(uri: str, experiment_id: str, run_id: str) -> str:
    """Returns the link to a run on a server; for a database also the command that starts a server."""
    page = f"/#/experiments/{experiment_id}/runs/{run_id}"
    if uri.startswith("http"):
        return uri.rstrip("/") + page
    return f"mlflow ui --backend-store-uri {uri}, then http://127.0.0.1:5000{page}"


def _prepare_database(uri: str) -> None:
    """Makes sure that a database exists, is complete and can be used.

    A new one is created under a lock, in a temporary file that is then renamed, so that neither simultaneous
    first runs nor a killed process leave an incomplete database.
    """
    from mlflow import MlflowClient

    path = Path(uri.removeprefix(SQLITE).replace("%25", "%"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _has_content(path):
            with lock_folder(path.parent):
                if not _has_content(path):
                    temporary = path.with_name(f"{path.name}.new")
                    temporary.unlink(missing_ok=True)  # of a process that was killed
                    MlflowClient(f"{uri}.new").search_experiments(max_results=1)  # creates the tables
                    temporary.replace(path)
        MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "") or type(error).__name__
        reason = first_line.partition(". ")[0].rstrip(".")  # MLflow's own remedy follows
        raise UserError(
            f"MLflow's database {path} cannot be used: {reason}. If another version of MLflow wrote it, "
            f"copy it and run `mlflow db upgrade {uri}`. If it is damaged, move it away, and a "
            "new one is created"
        ) from error


def _create_tables(uri: str) -> None:
    """Makes sure that MLflow's tables exist, one process after the other: its migrations race."""
    from mlflow import MlflowClient
    from sqlalchemy import create_engine, text

    engine = create_engine(uri)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": TABLES_LOCK})
            MlflowClient(uri).search_experiments(max_results=1)
    finally:
        engine.dispose()  # closes the connection, and with it the lock


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
