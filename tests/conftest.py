import pytest


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory):
    """Returns a database with MLflow's empty tables, which take MLflow seconds to make."""
    from dillema.tracking import track

    folder = tmp_path_factory.mktemp("mlflow")
    with track(f"sqlite:///{folder}/mlflow.db", str(folder), "made", folder=folder / "run", name="made", params={}, config=""):
        pass
    return folder / "mlflow.db"
