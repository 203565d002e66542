"""Verdicts of people: what raters judge, the page on which they do it, and what they answered.

`python -m dillema job=review run=<folder>` serves the page on this machine. Everything comes from a run
folder, and everything that is written lies in its folder `review/`:

| file | content |
|---|---|
| `items.json` | which images are judged, in their order; chosen when the review starts |
| `answers.db` | the answers, one of each rater for each image |
| `token` | the secret part of the page's address |
| `agreement.json` | how far raters agree with each other and with the gates |
"""
