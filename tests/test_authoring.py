"""A lesson is two files; ``build`` makes its notebooks and ``verify`` finds what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_helpers import ROOT, Lab

from engineroom.authoring.source import LessonSource

COUNTS = {"lessons", "exercises", "hints", "slips", "facts", "seconds", "problems"}


class Course:
    """A course of its own in a folder, with the lab of the session behind it."""

    def __init__(self, root: Path, lab: Lab) -> None:
        self.root = root
        self._env = lab.env | {"PYTHONPATH": str(root)}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "engineroom.cli", *words],
            cwd=self.root,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=180,
            stdin=subprocess.DEVNULL,
        )

    def verify(self) -> dict[str, Any]:
        done = self.run("verify", "--json", "tides")
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (1 if found["problems"] else 0)
        return found

    def problems(self) -> str:
        return "\n".join(self.verify()["problems"])

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @property
    def files(self) -> dict[str, tuple[int, bytes]]:
        return {
            str(path.relative_to(self.root)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in self.root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }


def empty_course(folder: Path, lab: Lab) -> Course:
    for name in ("notebooks", "solutions", "checks", "docs"):
        (folder / name).mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / "00_welcome.ipynb", folder / "notebooks")
    (folder / "checks" / "__init__.py").write_text("")
    return Course(folder, lab)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, common_lab: Lab) -> Course:
    """A course with one new lesson, built; tests that change it take a copy."""
    course = empty_course(tmp_path_factory.mktemp("course"), common_lab)
    done = course.run("new", "tides")
    assert done.returncode == 0, done.stderr
    done = course.run("build")
    assert done.returncode == 0, done.stderr
    return course


@pytest.fixture
def course(built: Course, tmp_path: Path, common_lab: Lab) -> Course:
    shutil.copytree(built.root, tmp_path / "course")
    return Course(tmp_path / "course", common_lab)


def test_a_new_lesson_is_two_files_and_holds(tmp_path: Path, common_lab: Lab) -> None:
    course = empty_course(tmp_path / "course", common_lab)
    before = set(course.files)
    done = course.run("new", "tides")
    assert done.returncode == 0
    assert set(course.files) - before == {"solutions/00_tides.py", "checks/tides.py"}
    assert course.run("build").returncode == 0
    found = course.verify()
    assert set(found) == COUNTS
    assert found["problems"] == []
    counted = [found[name] for name in ("lessons", "exercises", "hints", "slips", "facts")]
    assert counted == [1, 1, 2, 1, 0]


def test_the_header_comes_from_the_lesson(course: Course) -> None:
    source = course.root / "solutions/00_tides.py"
    source.write_text(
        source.read_text().replace("# %%\n", "# %% [markdown]\n# <!-- objectives -->\n\n# %%\n", 1)
    )
    assert course.run("build").returncode == 0
    notebook = json.loads((course.root / "notebooks/00_tides.ipynb").read_text())
    words = "".join(part for cell in notebook["cells"] for part in cell["source"])
    assert "ask Postgres and use its answer; *(A2, apply)*" in words
    assert "**Skills:** Async engines" in words
    assert notebook["metadata"]["engineroom"]["skills"] == ["Async engines"]
    assert "version" not in notebook["metadata"]["language_info"]
    # Another objective makes the notebook stale, though its source is as before.
    check = course.root / "checks/tides.py"
    check.write_text(check.read_text().replace("Ask Postgres and use", "Ask a server and use"))
    assert course.run("build", "--check").returncode == 1


def test_building_again_touches_no_file(built: Course) -> None:
    before = built.files
    assert built.run("build").returncode == 0
    assert built.files == before
    assert built.run("build", "--check").returncode == 0


def test_a_rebuilt_notebook_is_the_same(course: Course) -> None:
    before = {name: content for name, (_, content) in course.files.items()}
    assert course.run("build", "--force").returncode == 0
    assert {name: content for name, (_, content) in course.files.items()} == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("solutions/00_tides.py", "Your turn", "And now you"),
        ("notebooks/00_tides.ipynb", "Your turn", "Edited by hand"),
        ("solutions/00_tides.ipynb", "connection.scalar", "connection.other"),
    ],
)
def test_a_stale_notebook_is_found_without_running_it(
    course: Course, name: str, old: str, new: str
) -> None:
    course.edit(name, old, new)
    done = course.run("build", "--check")
    assert done.returncode == 1
    assert "is stale" in done.stderr
    assert "engineroom build" in done.stderr


def test_the_learners_notebook_has_no_answer_and_the_solved_one_has(built: Course) -> None:
    learners = nbformat.read(built.root / "notebooks" / "00_tides.ipynb", as_version=4)
    solved = nbformat.read(built.root / "solutions" / "00_tides.ipynb", as_version=4)
    nbformat.validate(learners)
    nbformat.validate(solved)
    for notebook, answered in ((learners, False), (solved, True)):
        (cell,) = [c for c in notebook.cells if "exercise" in c.metadata.get("engineroom", {})]
        assert cell.metadata["engineroom"]["exercise"] == "tides.product"
        assert ("connection.scalar" in cell.source) is answered
        assert cell.source.endswith("    ...") is not answered
        assert "<answer>" not in cell.source
        assert all(c.execution_count for c in notebook.cells if c.cell_type == "code")
    said = [str(cell.get("outputs", "")) for cell in learners.cells]
    assert any("not attempted" in words for words in said)
    assert any("passed" in str(cell.get("outputs", "")) for cell in solved.cells)


def test_a_notebook_that_fails_is_not_written(course: Course) -> None:
    before = course.files["notebooks/00_tides.ipynb"]
    course.edit("solutions/00_tides.py", 'select 6 * 7")))', 'select 6 * 7")) / 0)')
    done = course.run("build")
    assert done.returncode == 1
    assert "does not run to its end" in done.stderr
    assert "Traceback" not in done.stderr
    assert course.files["notebooks/00_tides.ipynb"] == before


@pytest.mark.parametrize(
    "cell",
    ["print('pid: 4711')", "object()", "print(lab.url)", "import sys; print('x', file=sys.stderr)"],
)
def test_an_output_that_varies_is_refused(course: Course, cell: str) -> None:
    path = course.root / "solutions" / "00_tides.py"
    path.write_text(path.read_text() + f"\n# %%\n{cell}\n")
    done = course.run("build")
    assert done.returncode == 1
    assert "would differ at every run" in done.stderr


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        (
            "solutions/00_tides.py",
            '{"a": a, "b": b}',
            '{"a": a, "b": a}',
            "the solution of tides.product is failed",
        ),
        (
            "solutions/00_tides.py",
            "    # <answer>\n",
            "    x = 1\n    # <answer>\n",
            "the stub of tides.product is",
        ),
        ("checks/tides.py", 'expect(answer == a * b, "TIDES-02"', 'expect(1, "TIDES-02"', "replay"),
        ("checks/tides.py", "return sum([a] * b)", "return 7", "spelling 2, is failed TIDES-02"),
        ("checks/tides.py", 'hints=("Who knows the answer?", "', "hints=(*[], *'", "hints"),
        ("checks/tides.py", 'measures=("ask",)', "measures=()", "objective 'ask'"),
        ("checks/tides.py", '"TIDES-02": "What', '"TIDES-09": "What', "TIDES-02 is explained"),
        (
            "solutions/00_tides.py",
            "tides.product.check()",
            "print(tides.product.check())",
            "no cell is exactly",
        ),
        ("solutions/00_tides.py", 'exercise="tides.product"', 'exercise="tides.x"', "tides.x"),
    ],
)
def test_verify_names_what_is_wrong(
    course: Course, name: str, old: str, new: str, words: str
) -> None:
    if words == "replay":
        # A check that believes what it is told: the very recording of a right answer passes.
        course.edit(name, 'expect(await trial.witness.logins() > before, "TIDES-01")', "pass")
        words = "passes a recording"
    if words == "hints":
        course.edit(
            name, 'hints=("Who knows the answer?", "`engine.connect()`, then one scalar."),',
            "hints=(),",
        )  # fmt: skip
        words = "has 0 hints"
    else:
        course.edit(name, old, new)
    found = course.problems()
    assert words in found
    assert "Next:" in found


def test_an_answer_in_the_text_is_found(course: Course) -> None:
    ((_, answer),) = LessonSource(course.root / "solutions" / "00_tides.py").answers()
    told = "".join(f"# {line}\n" for line in answer.splitlines())
    path = course.root / "solutions" / "00_tides.py"
    path.write_text(path.read_text() + f"\n# %% [markdown]\n{told}")
    assert course.run("build").returncode == 0
    assert "holds the answer to tides.product" in course.problems()


def test_a_fact_must_be_shown_by_an_output(course: Course) -> None:
    facts = course.root / "docs" / "facts" / "tides.toml"
    facts.parent.mkdir()
    facts.write_text('[[fact]]\nid = "9.1"\nsays = "Six times seven."\nshows = "42"\n')
    assert "9.1 is shown by no cell" in course.problems()
    course.edit("solutions/00_tides.py", "# %%\nengine = ", '# %% facts="9.1 9.2"\nengine = ')
    assert course.run("build").returncode == 0
    found = course.verify()
    assert found["facts"] == 1
    assert [p for p in found["problems"] if "9.2" in p]
    facts.write_text(facts.read_text().replace('"42"', '"43"'))
    assert "should show '43'" in course.problems()
    facts.write_text(facts.read_text().replace('"43"', '"6 * 7"'))
    assert "9.1" in course.problems()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("new", "Big Tides"), "can be no lesson's name"),
        (("new", "tides"), "is there already"),
        (("build", "baking"), "no lesson 'baking'"),
        (("verify", "baking"), "no lesson 'baking'"),
    ],
)
def test_bad_usage_is_one_sentence(built: Course, words: tuple[str, ...], sentence: str) -> None:
    done = built.run(*words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Next:" in done.stderr
    assert "Traceback" not in done.stderr
