"""Sphinx: ``tox -e docs`` builds the site."""

project = "noinherit"
copyright = "the noinherit maintainers"  # noqa: A001 -- Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "noinherit"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
nitpicky = True

# Links are written for GitHub, too: pages by their files, headings by GitHub's anchors.
myst_heading_anchors = 3

# Docstrings are read in a terminal first. What their single backticks name is a link if it is
# documented here, and else code: a parameter, something of the standard library.
default_role = "py:obj"
nitpick_ignore_regex = [("py:obj", ".*")]
# They say in words what is taken and returned; the annotations are for type checkers.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}


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


def setup(app):  # noqa: ANN001, ANN201, D103 -- likewise
    app.connect("missing-reference", find_by_its_name)
