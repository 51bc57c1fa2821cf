"""The page of the server: drop photographs on it, and see what is found in them."""

from pathlib import Path

from sia_gen.report.page import open_template

SCRIPT = Path(__file__).with_name("page.js")
# All of the page is in the page, and it talks to this server alone.
POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def render_page(title: str, threshold: float, megabytes: float) -> str:
    """Returns the page as HTML."""
    template = open_template("sia_gen.serving", "page.html.jinja", html=True)
    style = (Path(__file__).parents[1] / "report/style.css").read_text(encoding="utf-8")
    script = SCRIPT.read_text(encoding="utf-8")
    return template.render(
        title=title, threshold=threshold, megabytes=megabytes, style=style, script=script
    )
