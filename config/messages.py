"""`make messages`: collect the texts of the code into locale/*/LC_MESSAGES/django.po, and write the .mo beside it.

For whoever changes a text; it needs Babel, of the dev extras, and says in the end what has no translation. Django's
own makemessages needs gettext's programs, which a fresh machine has not. Templates are read as Django reads them, by
the same function. The docstring of a refusal is its text, and is collected too.
"""

import ast
import re
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locale"
FOLDERS = ("config", "coupons", "events", "notifications", "templates")
KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
PLACE = re.compile(r"%\(\w+\)[sd]|{\w+}")
HEADER = "# The texts of Seonchak in other languages. `make messages` keeps this in step with the code."

Text = tuple[str | tuple[str, ...], str | None]  # what is looked up (with its plural), and its context


def collected() -> Catalog:
    """All texts of the code, in the order of their files."""
    catalog = Catalog(project="Seonchak", header_comment=HEADER, fuzzy=False)
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")):
        if path.suffix not in {".py", ".html", ".txt"} or "migrations" in path.parts or path == Path(__file__):
            continue
        source = path.read_text()
        place = path.relative_to(ROOT).as_posix()
        for text, context in _texts(path, source):
            catalog.add(text, context=context, locations=[(place, None)], flags=_flags(text))  # type: ignore[list-item]
    return catalog


def _texts(path: Path, source: str) -> Iterator[Text]:
    code = source if path.suffix == ".py" else templatize(source)
    for _, text, _, context in extract("python", BytesIO(code.encode()), keywords=KEYWORDS):
        yield text, context
    if path.suffix == ".py":
        yield from ((text, None) for text in _refusals(source))


def _refusals(source: str) -> Iterator[str]:
    """The docstrings of classes that bear a code of the API: such a docstring is what the user reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and any(_is_code(line) for line in node.body):
            yield (ast.get_docstring(node) or "").strip()


def _is_code(line: ast.stmt) -> bool:
    return (
        isinstance(line, ast.Assign)
        and isinstance(line.targets[0], ast.Name)
        and line.targets[0].id == "code"
        and isinstance(line.value, ast.Constant)
    )


def _flags(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """Whether the text has places to be filled in, which a translation must have as well."""
    return ("python-format",) if _places(text) else ()


def catalogs() -> Iterator[tuple[Path, Catalog]]:
    """Each language's texts and where they are."""
    for path in sorted(LOCALE.glob("*/LC_MESSAGES/django.po")):
        with path.open("rb") as file:
            yield path, read_po(file, locale=path.parts[-3], domain="django")


def update(catalog: Catalog, texts: Catalog) -> Catalog:
    """The language's catalogue with just the texts of the code: new ones are empty, what is gone is gone."""
    catalog.update(texts, no_fuzzy_matching=True, update_header_comment=True, update_creation_date=False)
    catalog.obsolete.clear()
    return catalog


def compiled(catalog: Catalog) -> bytes:
    """The catalogue as Django reads it."""
    out = BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def missing(catalog: Catalog, texts: Catalog) -> list[str]:
    """What is wrong with a language's catalogue, a line each: texts without a translation, old and doubtful ones."""
    new = (text.id for text in texts if text.id and catalog.get(text.id, text.context) is None)
    lines = [f"is not in the catalogue: {text!r}" for text in new]
    for message in catalog:
        if not message.id:
            continue
        if texts.get(message.id, message.context) is None:
            lines.append(f"is nowhere in the code: {message.id!r}")
        if message.fuzzy:
            lines.append(f"is fuzzy: {message.id!r}")
        if not all(_forms(message.string)):
            lines.append(f"has no translation: {message.id!r}")
        elif any(_places(message.id) != _places(one) for one in _forms(message.string)):
            lines.append(f"has other placeholders: {message.id!r}")
    return lines


def _forms(text: Any) -> tuple[str, ...]:
    """The singular and the plural of a text, or the text alone."""
    return (text,) if isinstance(text, str) else tuple(text or [""])


def _places(text: Any) -> set[str]:
    return {place for one in _forms(text) for place in PLACE.findall(one)}


def main() -> int:
    """Collect, write and compile; the exit status is 1 where a translation is missing."""
    texts, status = collected(), 0
    for path, catalog in catalogs():
        update(catalog, texts)
        with path.open("wb") as file:
            write_po(file, catalog, width=120)
        path.with_suffix(".mo").write_bytes(compiled(catalog))
        for line in missing(catalog, texts):
            print(f"{path.relative_to(ROOT)}: {line}", file=sys.stderr)  # noqa: T201
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
