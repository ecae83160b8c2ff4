"""What is measured of the models of a comparison."""

from ftp_hf.compare.run.measuring import has_classes
from ftp_hf.tasks import Task, task_class


def test_classes_are_told_where_they_are_of_the_same_answers_as_the_metrics():
    text = task_class("text-classification")
    own = type("Own", (text,), {"compute_metrics": lambda _, __: {}})
    both = type("Both", (own,), {"by_class": lambda _, __: {}})
    assert [has_classes(kind) for kind in (Task, text, own, both)] == [False, True, False, True]
    assert not has_classes(task_class("text-classification/regression"))
    assert has_classes(task_class("text-classification/multi-label"))
