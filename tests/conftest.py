import pytest


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory):
    """Returns a database with MLflow's empty tables, which MLflow needs seconds to create."""
    from dillema.tracking.run import open_run

    folder = tmp_path_factory.mktemp("mlflow")
    database = f"sqlite:///{folder}/mlflow.db"
    with open_run(database, str(folder), "made", folder=folder / "run", name="made", params={}, config=""):
        pass
    return folder / "mlflow.db"
