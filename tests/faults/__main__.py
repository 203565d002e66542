"""Reads damaged inputs, and prints how many were survived: python -m tests.faults --long.

The tests themselves have a long form, too: pytest -m slow tests/faults.
"""

import argparse
from collections import Counter

from .cases import FAULTS, make_cases, run_cases


def main() -> None:
    """Reads damaged inputs, prints each fault, and a table of the outcomes by format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=501, help="damaged inputs")
    parser.add_argument("--long", action="store_true", help="2,000 damaged inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", nargs="*", help="modules of tests.faults.formats (all if not given)")
    options = parser.parse_args()
    table: dict[str, Counter[str]] = {}
    megabytes = 0
    cases = make_cases(2_000 if options.long else options.count, options.seed)
    for outcome in run_cases([case for case in cases if not options.groups or case.group in options.groups]):
        table.setdefault(outcome.case.format, Counter())[outcome.kind] += 1
        megabytes = max(megabytes, outcome.megabytes)
        if outcome.kind in FAULTS:
            print(f"{outcome.case}: {outcome.kind}\n{outcome.detail}\n", flush=True)
    for name, kinds in table.items():
        print(f"{name:45} {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")
    total = sum(table.values(), Counter())
    print(f"{total.total()} damaged inputs: {dict(total)}; at most {megabytes} MB for one of them")


if __name__ == "__main__":
    main()
