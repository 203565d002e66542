"""What a run took, and what that costs."""

from collections.abc import Mapping
from typing import Any

from ..run_folder import RunFolder, is_checked


def summarise_costs(results: Mapping[str, Any], price_per_hour: float | None) -> dict[str, float | None]:
    """Returns the share of valid images, the seconds of work, and the seconds and cost for each valid image.

    The seconds are those that the items took when they were made, in this run or an earlier one, so what the
    store already held changes nothing. An image that no gate judged counts, but is not called valid;
    `validity` is None if no image was judged.
    """
    counts, seconds = results["counts"], sum(results["seconds"].values())
    valid, generated = counts["valid"], counts["generated"]
    counted = valid + counts.get("unjudged", 0)
    seconds_each = seconds / counted if counted else None
    cost_each = (
        None if seconds_each is None or price_per_hour is None else seconds_each * price_per_hour / 3600
    )
    return {
        "validity": valid / generated if is_checked(results) and generated else None,
        "seconds_total": seconds,
        "seconds_per_valid_image": seconds_each,
        "cost_per_valid_image": cost_each,
    }


def price_per_hour(folder: RunFolder) -> float | None:
    """Returns what an hour of the machine costs by the configuration of a run."""
    price = folder.settings.select("tracking.price_per_hour")
    return price if isinstance(price, float | int) else None
