"""What may happen to a file: flipped bits, missing, doubled and foreign pieces."""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from jnas import JnasError

# JNAS_FUZZ=20 tries twenty times as many, and others in each run.
MORE = int(os.environ.get("JNAS_FUZZ", "1"))


def fuzz(examples):
    """The settings of the tests here: few examples, the same ones in each run."""
    return settings(
        max_examples=examples * MORE,
        deadline=None,
        derandomize=MORE == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def _edit(draw):
    kind = draw(st.sampled_from(["flip", "flip", "cut", "drop", "insert", "double"]))
    # Places by their share of the file, and near both ends, where headers are.
    place = draw(st.one_of(st.floats(0, 1), st.integers(0, 64), st.integers(-64, -1)))
    extra = draw(st.binary(min_size=1, max_size=8))
    return kind, place, extra, draw(st.integers(1, 40))


edits = st.lists(_edit(), min_size=1, max_size=3)


def damaged(content, edits):
    """The bytes after the edits."""
    content = bytearray(content)
    for kind, place, extra, length in edits:
        if not content:
            break
        at = int(place * (len(content) - 1)) if isinstance(place, float) else place
        at = at % len(content)
        if kind == "flip":
            content[at] ^= 1 << (length % 8)
        elif kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + length]
        elif kind == "insert":
            content[at:at] = extra
        else:
            content[at:at] = content[at : at + length]
    return bytes(content)


def damaged_text(text, edits):
    """The same of a text, still a text."""
    return damaged(text.encode(), edits).decode("utf-8", errors="replace")


def result_or_error(read, *arguments):
    """What was read, or None where one clear line was the answer."""
    try:
        return read(*arguments)
    except JnasError as error:
        message = str(error)
        assert message and "\n" not in message and len(message) < 2000, message
        return None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def changed_json(draw, value, other=JSON):
    """A JSON value with one part of it replaced, removed or added."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 5)) == 0:
        return draw(other)
    if isinstance(value, dict):
        name = draw(st.sampled_from(sorted(value)))
        action = draw(st.sampled_from(["inside", "inside", "remove", "add", "rename"]))
        rest = {k: v for k, v in value.items() if k != name}
        if action == "remove":
            return rest
        if action == "add":
            return {**value, draw(st.text(max_size=8)): draw(other)}
        if action == "rename":
            return {**rest, draw(st.text(max_size=8)): value[name]}
        return {**value, name: draw(changed_json(value[name], other))}
    place = draw(st.integers(0, len(value) - 1))
    action = draw(st.sampled_from(["inside", "inside", "remove", "double"]))
    if action == "remove":
        return value[:place] + value[place + 1 :]
    if action == "double":
        return [*value, value[place]]
    return [
        *value[:place],
        draw(changed_json(value[place], other)),
        *value[place + 1 :],
    ]
