"""Go's templates, as far as docker's users know them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput
from kist.faces.cli.template import compile_template

DATA = {
    "ID": "abc",
    "Names": ["a", "b"],
    "Empty": [],
    "Config": {"Labels": {"x.y": "1"}, "User": "", "Env": ["A=1"]},
    "Size": 12,
    "On": True,
    "None": None,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.ID}}:{{ .Size }}", "abc:12"),
        (
            "{{.}}",
            "map[Config:map[Env:[A=1] Labels:map[x.y:1] User:] Empty:[] ID:abc Names:[a b] None:<no value> On:true"
            " Size:12]",
        ),
        ("{{json .Config.Labels}}", '{"x.y":"1"}'),
        ("{{.Names | json}}", '["a","b"]'),
        ('{{join .Names ", "}}', "a, b"),
        ('{{index .Config.Labels "x.y"}}{{index .Config.Labels "none"}}{{index .Names 1}}', "1b"),
        ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Config.Labels}}{{.}}{{$.ID}}{{end}}", "1abc"),
        ("{{if .Config.User}}user{{else if .On}}on{{else}}off{{end}}", "on"),
        ('{{with .Config}}{{index .Labels "x.y"}}{{end}}', "1"),
        ("{{len .Names}} {{upper .ID}} {{slice .ID 1}}", "2 ABC bc"),
        ('{{if and .On (eq .ID "abc" "d")}}yes{{end}}', "yes"),
        ('{{printf "%s-%04d" .ID .Size}}', "abc-0012"),
        ("a {{- .ID -}} b", "aabcb"),
        ("{{/* nothing */}}x\\ty", "x\ty"),
        ("{{println .ID}}", "abc\n"),
        ("{{.None}}", "<no value>"),
        ('{{"quoted \\"word\\""}}', 'quoted "word"'),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert compile_template(template)(DATA) == text


@pytest.mark.parametrize(
    "template",
    ["{{", "{{join .Names}}",
     "{{.ID", "{{end}}", "{{if .ID}}", "{{range}}{{end}}", "{{}}", "{{nosuch .ID}}", "{{.Nosuch}}", "{{.ID.x}}",
     "{{.ID | }}", '{{"open}}', "{{(.ID}}", "{{index .Names 9}}", "{{range .Size}}{{end}}",
     "{{if .ID}}{{else}}{{else}}{{end}}"],
)  # fmt: skip
def test_mistakes_are_explained(template: str) -> None:
    with pytest.raises(InvalidInput, match="--format"):
        compile_template(template)(DATA)


@given(st.text(alphabet='{}. |()"rangeifdslwth$x\\', max_size=40))
def test_nothing_crashes_it(template: str) -> None:
    try:
        compile_template("{{" + template + "}}")(DATA)
    except InvalidInput:
        pass
