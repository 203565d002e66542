"""Labels with which tests read predictions."""

from dillema.run_folder import Labels

CLASSES = ("sky", "road", "car")
COLOURS = ((0, 0, 255), (99, 99, 99), (255, 0, 0))


def labels(task: str, classes: tuple[str, ...] = CLASSES) -> Labels:
    """Returns the labels of a data set of a task."""
    return Labels("tests", task, classes, COLOURS, frozenset())


CLASSIFICATION, SEGMENTATION = labels("classification"), labels("segmentation")
