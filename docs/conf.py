"""Sphinx: ``tox -e docs`` builds the site."""

import argparse
import re
from pathlib import Path

from docutils import nodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from noinherit._cli import main as command

project = "noinherit"
copyright = "the noinherit maintainers"  # noqa: A001 -- Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx_copybutton"]
myst_enable_extensions = ["deflist"]  # for the options of the command line
html_theme = "furo"
html_title = "noinherit"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
nitpicky = True
myst_html_meta = {
    "description": "noinherit: subprocess for Python, whose children hold exactly the file "
    "descriptors that you list, on Linux, macOS, BSD and Windows."
}

# Links are written for GitHub, too: pages by their files, headings by GitHub's anchors.
myst_heading_anchors = 3

# What is copied from a console is its commands, without prompt and output.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

# For `tox -e links`. GitHub makes the anchors of its pages in the browser.
linkcheck_timeout = 20
linkcheck_anchors_ignore_for_url = ["https://github.com/"]

# Docstrings are read in a terminal first. What their single backticks name is a link if it is
# documented here or in Python's documentation, and else code: a parameter, for example.
default_role = "py:obj"
nitpick_ignore_regex = [("py:obj", ".*"), ("py:class", ".*"), ("py:exc", ".*")]
# The part of Python's inventory that this site uses: a build needs no network.
intersphinx_mapping = {"python": ("https://docs.python.org/3", "python-inventory.txt")}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80


class CommandHelp(SphinxDirective):
    """The usage, the options and the notes of one command, from its parser."""

    required_arguments = 1

    def run(self):  # noqa: ANN201, D102 -- Sphinx's hook
        (commands,) = (
            action
            for action in command._parser()._actions  # noqa: SLF001 -- neither has a public name
            if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 -- likewise
        )
        return self.parse_text_to_nodes(described(commands.choices[self.arguments[0]]))


def described(parser: argparse.ArgumentParser) -> str:
    """Return what the help of `parser` says, as Markdown."""
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=80)
    usage = parser.format_usage().removeprefix("usage: ")
    parts = [f"```text\n{usage}```", parser.description or ""]
    for action in parser._actions:  # noqa: SLF001 -- argparse has no public list
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):  # noqa: SLF001 -- likewise
            names = ", ".join(action.option_strings) or action.metavar or action.dest
            value = f" {action.metavar}" if action.option_strings and action.metavar else ""
            parts.append(f"`{names}{value}`\n: {(action.help or '').replace('%%', '%')}")
    if parser.epilog:
        parts.append(f"```text\n{parser.epilog.strip()}\n```")
    return "\n\n".join(parts)


def draw_in_the_page(app, doctree, page):  # noqa: ANN001, ANN201, D103 -- Sphinx's hook
    # An image in a file follows the system's light or dark, not the theme that the reader chose.
    for image in list(doctree.findall(nodes.image)):
        if app.builder.format == "html" and image["uri"].endswith(".svg"):
            path = Path(app.srcdir, image["uri"])
            # Its colours are in static/site.css; names must differ within a page.
            svg = re.sub("<style>.*?</style>", "", path.read_text("utf-8"), flags=re.DOTALL)
            svg = svg.replace("<svg ", '<svg class="drawing" ', 1)
            svg = svg.replace('class="arrow"', 'class="arrow" marker-end="url(#head)"')
            for name in ("head", "t"):
                svg = re.sub(
                    rf'(id="|url\(#|labelledby="){name}(?=[")])', rf"\g<1>{path.stem}-{name}", svg
                )
            image.replace_self(nodes.raw("", svg, format="html"))


def find_by_its_name(app, env, node, contnode):  # noqa: ANN001, ANN201, D103 -- Sphinx's hook
    # Docstrings name an exception, and what is in the package itself, as their readers do.
    if node.get("refdomain") == "py":
        for module in ("noinherit", "noinherit.exceptions"):
            target = f"{module}.{node['reftarget']}"
            domain = env.domains["py"]
            found = domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", target, node, contnode
            )
            if found is not None:
                return found
    return None


def leave_out_overloads(analyze):  # noqa: ANN001, ANN201 -- a wrapper of Sphinx's method
    """Let the page show what `inspect.signature` does; the overloads differ in types only."""

    def wrapper(self):  # noqa: ANN001, ANN202 -- likewise
        analyze(self)
        self.overloads = {}

    return wrapper


def setup(app):  # noqa: ANN001, ANN201, D103 -- likewise
    app.connect("missing-reference", find_by_its_name)
    ModuleAnalyzer.analyze = leave_out_overloads(ModuleAnalyzer.analyze)
    app.connect("doctree-resolved", draw_in_the_page)
    app.add_directive("command-help", CommandHelp)
