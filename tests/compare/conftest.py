import pytest

from tests.support.tiny_data import make_images, make_texts
from tests.support.tiny_language import make_answers


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    return make_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="session")
def answers(tmp_path_factory):
    pytest.importorskip("trl")
    return make_answers(tmp_path_factory.mktemp("answers"))
