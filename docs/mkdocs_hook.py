"""
A hook of MkDocs: the site holds whatever its pages link to in the repository, beside `docs/`, and its front page is the README.

On GitHub a page links to `../benchmarks/README.md`; on the site that is a page as well, and a script or a config is a file.
So every link works in both places, and a link to what is not there fails the build.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
"""Of the repository, which the navigation names."""

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is linked to, and what that links to."""
    waiting = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    waiting += [ROOT / name for name in PAGES]
    known = set()
    while waiting:
        source = waiting.pop()
        if source in known:
            continue
        known.add(source)
        if not source.is_relative_to(config.docs_dir):
            files.append(
                File(
                    _on_site(source),
                    str(ROOT),
                    config.site_dir,
                    config.use_directory_urls,
                    inclusion=InclusionLevel.NOT_IN_NAV,
                )
            )
        if source.suffix == ".md":
            waiting += [target for target in _targets(source) if target.is_file()]
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Make the links of the repository those of the site."""
    source = Path(page.file.abs_src_path or "")

    def on_site(match: re.Match[str]) -> str:
        target = Path(posixpath.normpath(source.parent / match.group()))
        if not target.is_file() and (target / "README.md").is_file():
            target /= "README.md"
        if not target.is_relative_to(ROOT):
            return match.group()
        return posixpath.relpath(_on_site(target), posixpath.dirname(page.file.src_uri) or ".")

    return _LINK.sub(on_site, markdown)


def _on_site(path: Path) -> str:
    """Where a file of the repository is on the site: `docs/` lies over the rest."""
    inside = path.relative_to(ROOT)
    return (inside.relative_to("docs") if inside.parts[0] == "docs" else inside).as_posix()


def _targets(page: Path) -> list[Path]:
    links = [Path(posixpath.normpath(page.parent / link)) for link in _LINK.findall(page.read_text(encoding="utf-8"))]
    return [path if path.is_file() else path / "README.md" for path in links if path.is_relative_to(ROOT)]
