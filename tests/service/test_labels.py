"""Label lists."""

import pytest

from service import labels


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("coco80", 80, "person", "toothbrush"),
        ("voc21", 21, "background", "tv monitor"),
        ("cityscapes19", 19, "road", "bicycle"),
        ("face", 1, "face", "face"),
        ("text", 1, "text", "text"),
    ],
)
def test_lists_are_whole(name, count, first, last):
    names = labels.load(name)
    assert (len(names), names[0], names[-1]) == (count, first, last)
    assert len(set(names)) == count


def test_unknown_list_names_those_there_are():
    with pytest.raises(KeyError, match="no label list 'coco'; there are cityscapes19, coco80, face, text, voc21"):
        labels.load("coco")
    with pytest.raises(KeyError, match="no label list"):
        labels.load("../labels/coco80")
