"""Runs as pictures."""

from xml.etree import ElementTree as ET

from meshwright_gateway.http.workflow_graph import Node, mermaid, svg

SVG = "{http://www.w3.org/2000/svg}"
NODES = [
    Node("last", "pending", 'agent <chat> & "more"', ("left", "right"), "it's <broken>"),
    Node("first", "completed", "tool add", ()),
    Node("right", "running", "approval", ("first",)),
    Node("left", "failed", "delay 3s", ("first", "gone")),
]


def test_steps_stand_below_those_before_them_and_nothing_is_markup() -> None:
    drawn = ET.fromstring(svg("flow <1>", "running", NODES))  # noqa: S314 - our own
    tops = {}
    for group in drawn.iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None
        assert title.text is not None
        assert box is not None
        tops[title.text.partition(":")[0]] = float(box.attrib["y"])
    assert tops["first"] < tops["left"] == tops["right"] < tops["last"]
    edges = [path for path in drawn.findall(f"{SVG}path") if "marker-end" in path.attrib]
    assert len(edges) == 4
    assert not {one.tag.removeprefix(SVG) for one in drawn.iter()} & {"script", "image", "a"}


def test_mermaid_has_a_node_and_a_class_for_each_step() -> None:
    text = mermaid(NODES)
    assert text.count("-->") == 4
    assert "agent &lt;chat&gt; &amp; &quot;more&quot;" in text
    assert "classDef failed" in text
