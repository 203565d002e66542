"""The page of a run that did not finish."""

from dillema import report
from dillema.run_folder import RunFolder


def test_each_reason_has_a_line_and_the_command_that_helps_is_shown(tmp_path):
    report.write_failed(
        RunFolder(tmp_path), "llm.model=a/b: no <weights>\nmodel.c=d: none", "dillema job=prefetch"
    )
    text = (tmp_path / "report.html").read_text()
    assert "<li>llm.model=a/b: no &lt;weights&gt;</li><li>model.c=d: none</li>" in text
    assert '<pre class="command">dillema job=prefetch</pre>' in text
    report.write_failed(RunFolder(tmp_path), "the disk is full")
    text = (tmp_path / "report.html").read_text()
    assert '<p class="warning">the disk is full</p>' in text and "fetches everything" not in text
