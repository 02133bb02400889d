"""YAML by PyYAML's safe loader, with bounds on size, depth and aliases; scalars stay texts."""

from typing import Any

import yaml

from deixis.data.sources.base import BadRecord
from deixis.geometry.checks import shown

TEXT_LIMIT = 2**20
"""The most characters of a document."""
DEPTH_LIMIT = 32
NODE_LIMIT = 500_000
"""The most scalars, lists and mappings of a document, with aliases expanded."""

_KNOWN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "merge", "null", "seq", "str"))


class _TextLoader(yaml.SafeLoader):
    """PyYAML's safe loader in Python, with checks during parsing, before values are built."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = 0
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise BadRecord("bad_record", f"YAML: nested more than {DEPTH_LIMIT} deep")
        before = self.nodes
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]  # a key, too, or None
        self.depth -= 1
        if node is None:
            return None
        if alias and node not in self.sizes:
            raise BadRecord("bad_record", "YAML: an alias inside the value that it stands for")
        self.nodes += self.sizes[node] if alias else 1
        self.sizes[node] = self.nodes - before
        if self.nodes > NODE_LIMIT:
            raise BadRecord("bad_record", f"YAML: more than {NODE_LIMIT} values")
        if node.tag not in _KNOWN:
            raise BadRecord("bad_record", f"YAML: tag {shown(node.tag)} is not read")
        return node

    def compose_mapping_node(self, anchor: object) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # type: ignore[arg-type]  # a name
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:null":
                raise BadRecord("bad_record", "YAML: expected a name and a value")
            if key.value in seen:
                raise BadRecord("bad_record", f"{shown(key.value)}: comes twice")
            seen.add(key.value)
        return node


# Numbers, dates and words such as `no`, which may be class names, stay texts.
_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KNOWN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str) -> dict[str, Any]:
    """Return a document that is a mapping; its values are texts, None, lists and mappings.

    Anchors, aliases and merged mappings work as in PyYAML; an empty document is an empty mapping.

    Raises:
        BadRecord: The text is not YAML, has more than one document, is not a mapping, has a duplicate
            name, a tag or an alias inside its own value, or is beyond the limits.
    """
    if len(text) > TEXT_LIMIT:
        raise BadRecord("bad_record", f"{len(text)} characters, at most {TEXT_LIMIT} expected")
    try:
        value = _TextLoader(text.removeprefix("\ufeff")).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise BadRecord("bad_record", f"YAML: {line}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise BadRecord("bad_record", f"YAML: {str(error).splitlines()[0]}") from None
    if value is not None and not isinstance(value, dict):
        raise BadRecord("bad_record", f"expected names with values, got {shown(value)}")
    return value or {}
