"""The exercises of the course print what their pages say."""

import re
from pathlib import Path

import pytest

LESSONS = sorted(Path("docs/course").glob("[0-9]-*.md"))
TOLERANCE = 0.02
"""Of figures that other processors may round differently in training."""


def blocks(lesson, language):
    return re.findall(rf"```{language}\n(.*?)```", lesson.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_an_exercise_prints_what_its_page_says(lesson, capsys):
    (exercise,), (expected,) = blocks(lesson, "python"), blocks(lesson, "text")
    exec(compile(exercise, str(lesson), "exec"), {})  # noqa: S102 - it is our own
    printed = capsys.readouterr().out
    number = r"(?<![\w-])[+-]?\d*\.\d+"
    assert re.sub(number, "#", printed) == re.sub(number, "#", expected)
    figures = [[float(each) for each in re.findall(number, text)] for text in (printed, expected)]
    assert figures[0] == pytest.approx(figures[1], abs=TOLERANCE)


def test_there_are_six_lessons_each_with_an_exercise():
    assert len(LESSONS) == 6
    contents = Path("docs/course/README.md").read_text(encoding="utf-8")
    assert all(f"({lesson.name})" in contents for lesson in LESSONS)
