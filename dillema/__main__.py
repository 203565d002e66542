"""The command: composes a configuration, checks it, and runs its job."""

import logging
import os
import shlex
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from dillema.config import build, check, conf_dir
from dillema.errors import NoWeights

log = logging.getLogger("dillema")


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def main(cfg: DictConfig) -> None:
    """Runs the job of a configuration; ends with exit code 1, and the reason on the screen and in the log, when that fails."""
    try:
        check(cfg)
        build(cfg.job)(cfg)
    except KeyboardInterrupt:
        log.error("Stopped. What is finished is kept: the same command goes on from here.")
        sys.exit(130)
    except Exception as error:
        ours = not isinstance(error, CompactHydraException) or os.environ.get("HYDRA_FULL_ERROR") == "1"
        log.error(error, exc_info=ours)
        if isinstance(error, NoWeights):
            others = [setting for setting in HydraConfig.get().overrides.task if not setting.lstrip("+~").startswith(("job=", "job."))]
            log.error("This fetches all that the run needs: %s", shlex.join(["python", "-m", "dillema", "job=prefetch", *others]))
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # an exit would take the other runs of the sweep with it; Hydra raises this one again at the end
        sys.exit(1)


if __name__ == "__main__":
    main()
