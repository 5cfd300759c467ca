"""`commit --change`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput
from kist.plan.instructions import apply_change
from kist.spec.image import ContainerConfig, Empty

BASE = ContainerConfig(env=("A=1",), entrypoint=("e",), cmd=("c",), labels={"l": "1"}, working_dir="/w")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ('CMD ["a", "b c"]', "cmd", ("a", "b c")),
        ("cmd echo $A", "cmd", ("/bin/sh", "-c", "echo $A")),
        ('ENTRYPOINT ["x"]', "entrypoint", ("x",)),
        ('ENTRYPOINT ["x"]', "cmd", ()),
        ("ENV A=2 B='x y'", "env", ("A=2", "B=x y")),
        ("ENV B the rest", "env", ("A=1", "B=the rest")),
        ("LABEL m=2", "labels", {"l": "1", "m": "2"}),
        ("EXPOSE 80 53/udp", "exposed_ports", {"80/tcp": Empty(), "53/udp": Empty()}),
        ("VOLUME /a /b", "volumes", {"/a": Empty(), "/b": Empty()}),
        ('VOLUME ["/a b"]', "volumes", {"/a b": Empty()}),
        ("WORKDIR sub", "working_dir", "/w/sub"),
        ("WORKDIR /x", "working_dir", "/x"),
        ("USER web:web", "user", "web:web"),
        ("STOPSIGNAL SIGINT", "stop_signal", "SIGINT"),
        ("ONBUILD RUN x", "on_build", ("RUN x",)),
    ],
)
def test_instructions(text, field, value):
    assert getattr(apply_change(BASE, "--change", text), field) == value


@pytest.mark.parametrize("text", ["", "RUN true", "FROM x", "CMD", "CMD [", 'CMD ["a"', "CMD [1]", "ENV A=1 B",
                                  "ENV =1", "ENV A='"])  # fmt: skip
def test_instructions_refused(text):
    with pytest.raises(InvalidInput):
        apply_change(BASE, "--change", text)


@given(st.text(max_size=20), st.sampled_from(["CMD", "ENV", "LABEL", "VOLUME", "EXPOSE", "WORKDIR"]))
def test_any_text_is_a_config_or_refused(text, word):
    try:
        apply_change(BASE, "--change", f"{word} {text}")
    except InvalidInput:
        pass
