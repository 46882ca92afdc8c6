"""``junit.xml``: a class as a CI system shows it, a suite for each learner."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET  # only ever written here, never read

from engineroom.grading.gradebook import Gradebook, Row
from engineroom.grading.results import Line

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(book: Gradebook) -> str:
    """Failed is a failure, not attempted is skipped, and what their code did to itself an error."""
    root = ET.Element("testsuites", name="engineroom grade")
    for row in (*book.rows, *book.missing):
        suite = ET.SubElement(root, "testsuite", name=_clean(row.learner))
        cases = [
            _case(suite, row, row.lines[exercise.id])
            for exercise in book.exercises
            if exercise.id in row.lines
        ]
        if row.status != "graded":
            kind = "skipped" if row.status == "missing" else "error"
            cases.append(_submission(suite, row, kind))
        _count(suite, cases, sum(line.seconds for line in row.lines.values()))
    _count(
        root,
        [kind for suite in root for case in suite for kind in (case[0].tag if len(case) else "",)],
        sum(float(suite.get("time", 0)) for suite in root),
    )
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(suite: ET.Element, row: Row, line: Line) -> str:
    case = ET.SubElement(
        suite,
        "testcase",
        # A viewer knows a case by these two, so the learner is in one of them.
        classname=_clean(f"{row.learner}.{line.lesson}"),
        name=line.exercise.partition(".")[2],
        time=f"{line.seconds:.3f}",
    )
    if line.status == "passed":
        return ""
    kind = {"failed": "failure", "not_attempted": "skipped"}.get(line.status, "error")
    found = ET.SubElement(case, kind, message=_clean(line.message))
    if kind != "skipped":
        found.set("type", line.code or line.status)
        found.text = _clean(line.message)
    return kind


def _submission(suite: ET.Element, row: Row, kind: str) -> str:
    case = ET.SubElement(
        suite, "testcase", classname=_clean(row.learner), name="submission", time="0.000"
    )
    found = ET.SubElement(case, kind, message=_clean(row.reason))
    if kind == "error":
        found.set("type", row.status)
        found.text = _clean(row.reason)
    return kind


def _count(element: ET.Element, kinds: list[str], seconds: float) -> None:
    element.set("tests", str(len(kinds)))
    element.set("failures", str(kinds.count("failure")))
    element.set("errors", str(kinds.count("error")))
    if element.tag == "testsuite":  # the schema of Jenkins has it there only
        element.set("skipped", str(kinds.count("skipped")))
    element.set("time", f"{seconds:.3f}")


def _clean(text: str) -> str:
    """Without the characters that XML has no way to write."""
    return _NOT_XML.sub("\ufffd", text)
