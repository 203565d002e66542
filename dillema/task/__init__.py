"""Tasks: everything that depends on the kind of label, in one file a task.

`get_task("segmentation")` is the value `TASK` of the module `dillema.task.segmentation`. A task of one's own
is a module of one's own with a value `TASK`, named in full by the data set (`task = "my_package.keypoints"`).
"""

from importlib import import_module

from ..errors import UserError
from .base import Answer, Labels, PredictionSet, Task, Truth

__all__ = ["Answer", "Labels", "PredictionSet", "Task", "Truth", "get_task"]


def get_task(name: str) -> Task:
    """Returns a task by the name of its module, in this package or in full.

    Raises a UserError for an unknown one.
    """
    module = name if "." in name else f"{__name__}.{name}"
    try:
        task: Task = import_module(module).TASK
    except (ImportError, AttributeError) as error:
        raise UserError(f"there is no task {name!r}: {error}") from error
    return task
