"""Sphinx configuration: `sphinx-build -W -n docs docs/_build` builds without warnings, and without a network."""

import re
from importlib.metadata import version as installed

from docutils.nodes import Element, Node
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

project = "torchcam_suite"
author = "the authors of torchcam_suite"
release = version = installed("torchcam-suite")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
default_role = "code"  # single backticks in docstrings
html_theme = "furo"
html_title = project
html_show_copyright = False

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have the types, with shapes and ranges
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# Types in docstrings are written as people say them: "sequence of str, optional", "(N, C, h, w)", "{"max", "minmax"}".
# `leave_words` takes the links off words in small letters, and a single capital letter is the length of an axis. Any
# other name has to be one that is documented here, or one of EXTERNAL.
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", "[A-Z]"),
    ("py:class", '.*[" {}=].*'),
    ("py:class", r"(matplotlib|numpy|torch)\..*"),
]
EXTERNAL = {
    *("None", "True", "False", "Literal", "Path", "Image", "PIL.Image.Image", "Tensor", "Module"),
    *("ValueError", "TypeError", "KeyError", "IndexError", "RuntimeError", "OSError", "KeyboardInterrupt"),
    *("FileNotFoundError", "FileExistsError", "NotImplementedError", "UserWarning", "Exception"),
}
LINKED = ("class", "exception")


def leave_words(_app: Sphinx, document: Element) -> None:
    """Let "name" in a type be a word, and no link to whatever attribute is called so."""
    for node in list(document.findall(pending_xref)):
        if node.get("reftype") == "class" and not re.search("[A-Z]", node["reftarget"]):
            node.replace_self(node.children)


def link_by_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element) -> Element | Node | None:
    """Link `Model` to `torchcam_suite.Model`: docstrings name classes as their module imports them."""
    if node.get("refdomain") != "py" or node.get("reftype") not in ("class", "exc"):
        return None
    name = node["reftarget"].removeprefix("torch.").removeprefix("nn.").removeprefix("np.")
    objects = env.domains.python_domain.objects
    found = [entry for full, entry in objects.items() if full.split(".")[-1] == name and entry.objtype in LINKED]
    if len(found) == 1:
        return make_refnode(app.builder, node["refdoc"], found[0].docname, found[0].node_id, shown)
    return shown if name in EXTERNAL else None


def keep_files_beside_docs(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Let a link to a file outside of docs, as ../SECURITY.md, be one to a copy of it, not to a page."""
    source[0] = re.sub(r"\]\(\.\./(?=[A-Z]+(\.md)?\))", "](path:../", source[0])


def describe_whole(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Napoleon takes what stands before the first colon of a property's docstring for its type; ours are sentences."""
    if what == "property" and lines:
        lines[:0] = ["..", ""]  # an empty comment


def name_each_attribute(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Napoleon splits "mean, std : float" among parameters; among attributes it takes the first name for a type."""
    if "Attributes" not in lines:
        return
    start = lines.index("Attributes") + 2
    end = next((place - 1 for place in range(start, len(lines)) if re.fullmatch("-+", lines[place])), len(lines))
    entries: list[list[str]] = []
    for line in lines[start:end]:
        if line[:1].strip() or not entries:
            entries.append([line])
        else:
            entries[-1].append(line)
    lines[start:end] = [line for entry in entries for line in one_for_each_name(*entry)]


def one_for_each_name(first: str, *others: str) -> list[str]:
    """The lines of an attribute, for each of its names."""
    names, colon, kind = first.partition(" : ")
    return [line for name in names.split(", ") for line in (f"{name}{colon}{kind}", *others)]


def setup(app: Sphinx) -> None:
    """Enter the handlers."""
    app.connect("doctree-read", leave_words)
    app.connect("missing-reference", link_by_short_name)
    app.connect("source-read", keep_files_beside_docs)
    app.connect("autodoc-process-docstring", describe_whole, priority=100)
    app.connect("autodoc-process-docstring", name_each_attribute, priority=100)
