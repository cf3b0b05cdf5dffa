"""Keep the Chinese edition in step with the English one: `make translations`.

  update [NAME]  bring the units in translations/zh/ up to date with the English texts
  build [NAME]   write notebooks/zh/ and the Chinese pages from them
  check [NAME]   say what is missing, out of date or different; exit 1 if anything is

A unit is a Markdown cell of a notebook, or a block between two blank lines of a page. It stands in
a PO file with its English text, so a changed English text is seen: `update` then marks the unit as
fuzzy, and `build` and `check` refuse it until somebody has looked at it. Where only numbers have
changed, `update` puts the new ones in by itself. Code, outputs and cell ids are those of the
English notebook; links lead to the Chinese edition wherever there is one.
"""

from __future__ import annotations

import argparse
import calendar
import copy
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import polib

from notebook_rules import NO_CHINESE_YET, NOTEBOOKS, REPOSITORY, Notebook, notebook_paths, tags

LANGUAGE = "zh"
UNITS = REPOSITORY / "translations" / LANGUAGE
# The pages that have a Chinese edition, and where it stands.
PAGES = {
    "README.md": "README.zh.md",
    "docs/glossary.md": "docs/zh/glossary.md",
    "docs/troubleshooting.md": "docs/zh/troubleshooting.md",
    "docs/workshop.md": "docs/zh/workshop.md",
}
FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
LINK = re.compile(r"(?<=\])\(([^)\s]+)\)")
HEADING = re.compile(r"^(#{1,6}) +(.+?) *$", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# 100 million is 1 亿, and November 2026 is 2026 年 11 月.
SIZES = {"million": 10**6, "billion": 10**9, "万": 10**4, "亿": 10**8}
AMOUNT = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(SIZES)})")
MONTHS = {name: str(month) for month, name in enumerate(calendar.month_name) if name}
MONTH = re.compile(rf"({'|'.join(MONTHS)})(?= \d{{4}})")
SWITCH = re.compile(r"\[中文\]\(\S+\)")  # a page's link to its Chinese edition
LETTER = re.compile(r"[A-Za-z]{2}")
# What `notebook_rules.install_parts` writes, seen from one folder further down.
PLACES = (("../src", "../../src"), ("--editable ..", "--editable ../.."), ('"..[', '"../..['))
CONTENTS, OTHER_LANGUAGE = "目录", "English"


@dataclass(frozen=True)
class Text:
    """An English notebook or page, and its Chinese edition.

    Attributes:
        source: The English file.
        target: The Chinese file.
    """

    source: Path
    target: Path

    @property
    def name(self) -> str:
        """What its units are called."""
        return self.source.stem

    @property
    def file(self) -> Path:
        """The file with its units."""
        return UNITS / f"{self.name}.po"

    def units(self) -> dict[str, str]:
        """Return the English texts by key: a cell's id, or a block's place among its like."""
        if self.source.suffix == ".ipynb":
            cells = Notebook.read(self.source).prose
            return {cell.id: cell.source for cell in cells}
        return dict(keyed_blocks(self.source.read_text("utf-8")))


def texts(names: list[str] | None = None) -> list[Text]:
    """Return the texts that are translated, or those named."""
    pairs = [(path, NOTEBOOKS / LANGUAGE / path.name) for path in notebook_paths()]
    pairs += [(REPOSITORY / page, REPOSITORY / PAGES[page]) for page in PAGES]
    found = [Text(*pair) for pair in pairs if pair[0].is_file()]
    if names:
        return [text for text in found if text.name in names or text.name[:2] in names]
    return [text for text in found if text.name not in NO_CHINESE_YET]


def blocks(page: str) -> list[str]:
    """Split a page at its blank lines; fenced code stays whole."""
    parts, last = [], 0
    for fence in FENCE.finditer(page):
        parts += re.split(r"\n{2,}", page[last : fence.start()].strip("\n"))
        parts.append(fence.group())
        last = fence.end()
    parts += re.split(r"\n{2,}", page[last:].strip("\n"))
    return [part for part in parts if part.strip()]


def keyed_blocks(page: str) -> Iterator[tuple[str, str]]:
    """Go through the blocks of a page that hold words, each with a key that others do not move."""
    seen: Counter[str] = Counter()
    heading = ""
    for block in blocks(page):
        if FENCE.fullmatch(block) or SWITCH.fullmatch(block) or not LETTER.search(block):
            continue
        if found := HEADING.match(block):
            heading = found.group(2)
        seen[heading] += 1
        yield f"{heading} {seen[heading]}", block


# The units.


def update(text: Text) -> str:
    """Bring the units of a text up to date; return how many wait for a translator, in words."""
    kept = polib.pofile(str(text.file)) if text.file.is_file() else []
    by_key = {entry.msgctxt: entry for entry in kept}
    by_english = {entry.msgid: entry for entry in kept}
    result = polib.POFile(wrapwidth=0)
    result.metadata = {"Content-Type": "text/plain; charset=utf-8", "Language": LANGUAGE}
    for key, english in text.units().items():
        entry = polib.POEntry(msgctxt=key, msgid=english)
        old = by_english.get(english) or by_key.get(key)
        if old is not None:
            entry.msgstr, entry.flags = old.msgstr, list(old.flags)
            if old.msgid != english and old.msgstr:
                renewed = with_new_numbers(old.msgid, english, old.msgstr)
                if renewed and not old.fuzzy:
                    entry.msgstr = renewed
                else:
                    entry.flags = ["fuzzy"]
                    entry.previous_msgid = old.previous_msgid or old.msgid
        result.append(entry)
    text.file.parent.mkdir(parents=True, exist_ok=True)
    result.save(str(text.file))
    waiting = sum(entry.fuzzy or not entry.msgstr for entry in result)
    return f"{text.name}: {waiting} of {len(result)} units wait for a translator" if waiting else ""


def with_new_numbers(old: str, new: str, translation: str) -> str:
    """Return the translation with the new English text's numbers, or "" if more has changed."""
    before, after = NUMBER.findall(old), NUMBER.findall(new)
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return ""
    stated = NUMBER.findall(translation)
    if stated == before:  # in the same order
        fresh = iter(after)
        return NUMBER.sub(lambda _: next(fresh), translation)
    meaning: dict[str, set[str]] = {}
    for one, other in zip(before, after, strict=True):
        meaning.setdefault(one, set()).add(other)
    if Counter(stated) != Counter(before) or any(len(others) > 1 for others in meaning.values()):
        return ""
    return NUMBER.sub(lambda found: next(iter(meaning[found.group()])), translation)


def problems_of(text: Text) -> Iterator[str]:
    """Go through what is wrong with the units of a text."""
    if not text.file.is_file():
        yield "has no units: run python scripts/translations.py update"
        return
    stored = {entry.msgctxt: entry for entry in polib.pofile(str(text.file))}
    wanted = text.units()
    for key in stored.keys() - wanted.keys():
        yield f"unit {key!r} belongs to no English text"
    for key, english in wanted.items():
        entry = stored.get(key)
        if entry is None or not entry.msgstr:
            yield f"unit {key!r} is not translated"
        elif entry.msgid != english or entry.fuzzy:
            yield f"unit {key!r} was translated from another English text"
        else:
            yield from (f"unit {key!r} {how}" for how in differences(english, entry.msgstr))


def differences(english: str, translation: str) -> Iterator[str]:
    """Go through what a translation may not change, and has changed."""
    for what, parts in PARTS.items():
        ours, theirs = Counter(parts(english)), Counter(parts(translation))
        if ours != theirs:
            lacking = ", ".join(map(str, (ours - theirs).elements())) or "nothing"
            added = ", ".join(map(str, (theirs - ours).elements())) or "nothing"
            yield f"has other {what}: it lacks {lacking}, and has besides {added}"


def code_of(text: str) -> list[str]:
    """Return the fenced code and the code in the text."""
    fenced = [found.group() for found in FENCE.finditer(text)]
    return fenced + [found.group(2) for found in CODE.finditer(FENCE.sub("", text))]


def links_of(text: str) -> list[str]:
    """Return where the links lead."""
    return LINK.findall(FENCE.sub("", text))


def numbers_of(text: str) -> list[str]:
    """Return the numbers outside code and links."""
    text = LINK.sub("", CODE.sub("", FENCE.sub("", text)))
    text = MONTH.sub(lambda found: MONTHS[found[1]], text)
    return NUMBER.findall(
        AMOUNT.sub(lambda found: f"{float(found[1]) * SIZES[found[2]]:.0f}", text)
    )


def levels_of(text: str) -> list[str]:
    """Return the levels of the headings, as so many #."""
    return [level for level, _ in HEADING.findall(FENCE.sub("", text))]


PARTS = {"code": code_of, "links": links_of, "numbers": numbers_of, "headings": levels_of}


# The Chinese edition.


def built(text: Text) -> str:
    """Return the Chinese edition of a text, as it is to stand in its file.

    Errors: `KeyError` if a unit is missing; `check` says more.
    """
    translated = {entry.msgctxt: entry.msgstr for entry in polib.pofile(str(text.file))}
    if text.source.suffix != ".ipynb":
        page = text.source.read_text("utf-8")
        by_english = {english: translated[key] for key, english in keyed_blocks(page)}
        switch = f"[{OTHER_LANGUAGE}]({os.path.relpath(text.source, text.target.parent)})"
        parts = [
            switch
            if SWITCH.fullmatch(block)
            else with_own_links(by_english.get(block, block), text)
            for block in blocks(page)
        ]
        return "\n\n".join(parts) + "\n"
    node = copy.deepcopy(Notebook.read(text.source).node)
    for cell in node.cells:
        if "navigation" in tags(cell):
            cell.source = navigation(text)
        elif "install" in tags(cell):
            for place, further in PLACES:
                cell.source = cell.source.replace(place, further)
        elif cell.id in translated:
            cell.source = with_own_links(translated[cell.id], text)
    return nbformat.v4.writes(node) + "\n"


def navigation(text: Text) -> str:
    """Return the bar at the end of a Chinese notebook."""
    paths = notebook_paths()
    place = paths.index(text.source)
    first = texts([paths[0].stem])[0]
    parts = [f"[{CONTENTS}]({first.target.name}#{anchors(first).get('The-map', '')})"]
    if place:
        name, target = named(paths[place - 1])
        parts.insert(0, f"[← {name}]({target})")
    if place + 1 < len(paths):
        name, target = named(paths[place + 1])
        parts.append(f"[{name} →]({target})")
    parts.append(f"[{OTHER_LANGUAGE}](../{text.source.name})")
    return "---\n" + " · ".join(parts)


def named(path: Path) -> tuple[str, str]:
    """Return number and title of a notebook, and where it stands, seen from a Chinese one."""
    text = next((each for each in texts() if each.source == path), None)
    if text is None:  # it has no Chinese edition yet
        return f"{path.name[:2]} {Notebook.read(path).title}", f"../{path.name}"
    return f"{path.name[:2]} {heading_pairs(text)[0][1]}", path.name


def with_own_links(translation: str, text: Text) -> str:
    """Return a translation whose relative links fit its place and lead to Chinese texts."""

    def own(found: re.Match[str]) -> str:
        target, _, anchor = found.group(1).partition("#")
        if re.match(r"[a-z]+:", target):
            return found.group()
        place = (text.source.parent / target).resolve() if target else text.source
        other = next((each for each in texts() if each.source == place), None)
        if other is not None:
            place = other.target
            anchor = anchors(other).get(anchor, anchor)
        path = os.path.relpath(place, text.target.parent) if target else ""
        return f"({path}{'#' + anchor if anchor else ''})"

    return LINK.sub(own, translation)


@cache
def heading_pairs(text: Text) -> list[tuple[str, str]]:
    """Return the English and the Chinese headings of a text, in order."""
    stored = polib.pofile(str(text.file)) if text.file.is_file() else []
    translated = {entry.msgctxt: entry.msgstr for entry in stored}
    pairs = []
    for key, english in text.units().items():
        ours = HEADING.findall(FENCE.sub("", english))
        theirs = HEADING.findall(FENCE.sub("", translated.get(key, "")))
        pairs += [(one[1], other[1]) for one, other in zip(ours, theirs, strict=False)]
    return pairs


def anchors(text: Text) -> dict[str, str]:
    """Return for each English anchor of a text the one of the same heading in Chinese.

    JupyterLab puts a hyphen for each space of a heading; on pages GitHub's rule holds, which writes
    small letters too and leaves out punctuation.
    """
    form = jupyter_anchor if text.source.suffix == ".ipynb" else github_anchor
    return {form(english): form(chinese) for english, chinese in heading_pairs(text)}


def jupyter_anchor(heading: str) -> str:
    """Return the anchor of a heading in JupyterLab."""
    return heading.replace("`", "").replace(" ", "-")


def github_anchor(heading: str) -> str:
    """Return the anchor of a heading on GitHub."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def build(text: Text) -> bool:
    """Write the Chinese edition of a text; return whether the file changed."""
    new = built(text)
    text.target.parent.mkdir(parents=True, exist_ok=True)
    solutions = NOTEBOOKS / LANGUAGE / "solutions"
    if text.target.parent == solutions.parent and not solutions.exists():
        solutions.symlink_to("../solutions")
    if text.target.is_file() and text.target.read_text("utf-8") == new:
        return False
    text.target.write_text(new, "utf-8")
    return True


def check(text: Text) -> list[str]:
    """Return what is wrong with the Chinese edition of a text, a line each."""
    found = [f"{text.name}: {problem}" for problem in problems_of(text)]
    if not found and (not text.target.is_file() or text.target.read_text("utf-8") != built(text)):
        found = [
            f"{text.name}: {text.target.name} is not what its units give: run make translations"
        ]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["update", "build", "check"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="NN or a page's name")
    options = parser.parse_args(arguments)
    chosen = texts(options.names)
    if options.action == "update":
        print("\n".join(filter(None, map(update, chosen))) or "all units are translated")
        return 0
    if options.action == "build":
        for text in chosen:
            if not any(problems_of(text)) and build(text):
                print(f"{text.target.name}: brought up to date")
    problems = [problem for text in chosen for problem in check(text)]
    print("\n".join(problems) or f"{len(chosen)} texts are in step")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
