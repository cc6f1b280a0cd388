"""The documents tell the truth where a machine can check it: headings, commands, configurations, links."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from routeiq.cli.main import group
from routeiq.config.litellm_sections import ConfigFile
from routeiq.config.loader import inspect_config
from routeiq.config.model import Config
from routeiq.config.section import StrategyChoice
from routeiq.registry import BUILTIN_STRATEGIES
from routeiq.routing.strategy_set import make

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*(ROOT / "docs").rglob("*.md"), *(p for p in ROOT.glob("*.md") if p.name != "AGENTS.md")}
)
FENCE = re.compile(r"^( *)```([a-z]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
SHELL = frozenset({"", "bash", "sh", "shell", "console", "text"})
PREFIX = re.compile(r"^(?:\w+=\S*\s+)*(?:\S*/)?(routeiq|make)(?= |$)")
ENVIRON = {"OPENAI_API_KEY": "sk-example"}


class Block(NamedTuple):
    """A fenced block and where it stands."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0][:60]}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for _, language, text in FENCE.findall(page.read_text(encoding="utf-8")):
            if text.strip():
                yield Block(page, language, textwrap.dedent(text))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def shell_lines(block: Block) -> Iterator[str]:
    """The commands of a block; of a transcript only what was typed."""
    lines = block.text.replace("\\\n", " ").splitlines()
    typed = [line.strip() for line in lines if line.strip().startswith("$ ")]
    for line in typed or ([] if block.language == "console" else lines):
        for part in re.split(r"; do |; |&& |\| ", line.strip().removeprefix("$ ")):
            yield part.strip()


def commands(program: str) -> list[tuple[Block, str]]:
    return [
        (block, line)
        for block in blocks()
        if block.language in SHELL
        for line in shell_lines(block)
        if (found := PREFIX.match(line)) is not None
        and found[1] == program
        and not re.match(r"routeiq [\d<]", line)
    ]


def wrong_with(line: str) -> str | None:
    """What is wrong with a call of `routeiq`, if anything."""
    words = shlex.split(line, comments=True)
    words = words[next(i for i, w in enumerate(words) if w.rsplit("/", 1)[-1] == "routeiq") + 1 :]
    command: click.Command = group
    context = click.Context(group, info_name="routeiq", help_option_names=["-h", "--help"])
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]!r}"
        command, words = found, words[1:]
    known = {name for p in command.get_params(context) for name in (*p.opts, *p.secondary_opts)}
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and not re.match(r"-\d", name) and name not in known:
            return f"no option {name!r}"
    return None


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def configurations() -> list[Block]:
    keys = set(ConfigFile.model_fields)
    found = []
    for block in blocks():
        if block.language == "yaml":
            document = yaml.safe_load(block.text)
            if isinstance(document, dict) and keys & set(document):
                found.append(block)
    return found


def strategies(config: Config) -> Iterator[StrategyChoice | str | None]:
    section = config.routeiq
    yield from (section.strategy, section.balancing)
    yield from (profile.strategy for profile in section.profiles.values())
    yield from (routing_group.strategy for routing_group in section.groups.values())


def test_every_strategy_has_a_heading_in_the_reference() -> None:
    text = (ROOT / "docs/reference/strategies.md").read_text(encoding="utf-8")
    named = {word for heading in HEADING.findall(text) for word in re.findall(r"[a-z-]+", heading)}
    assert set(BUILTIN_STRATEGIES) - named == set()


def test_every_command_has_a_heading_in_the_reference() -> None:
    headings = HEADING.findall((ROOT / "docs/reference/cli.md").read_text(encoding="utf-8"))
    context = click.Context(group)
    names = group.list_commands(context)
    models = group.get_command(context, "models")
    assert isinstance(models, click.Group)
    names = [*names, *(f"models {name}" for name in models.list_commands(context))]
    assert [name for name in names if f"routeiq {name}" not in headings] == []


def test_every_command_in_a_shell_block_exists_with_its_options() -> None:
    found = commands("routeiq")
    assert len(found) > 20
    wrong = [f"{block}: {line}: {said}" for block, line in found if (said := wrong_with(line))]
    assert wrong == []


def test_every_command_named_in_a_sentence_exists() -> None:
    wrong = []
    for page in PAGES:
        for line in re.findall(r"`(routeiq [a-z][a-z -]*)`", prose(page).replace("\n", " ")):
            if said := wrong_with(line):
                wrong.append(f"{page.relative_to(ROOT)}: {line}: {said}")
    assert wrong == []


def test_every_make_target_in_a_shell_block_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = [(block, word) for block, line in commands("make") for word in line.split()[1:2]]
    assert found
    assert [f"{block}: {word}" for block, word in found if word not in targets] == []


@pytest.mark.parametrize("block", configurations(), ids=str)
def test_a_configuration_in_the_docs_is_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(block.text, encoding="utf-8")
    named = dict.fromkeys(re.findall(r"os\.environ/(\w+)", block.text), "https://example.com")
    config, problems = inspect_config(str(file), {**ENVIRON, **named})
    assert [str(p) for p in problems if p.severity == "error"] == []
    assert config is not None
    for choice in strategies(config):
        if choice is not None:
            assert make(choice, key="routeiq.strategy").name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    wrong = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists():
            wrong.append(target)
        elif anchor and there.suffix == ".md":
            headings = HEADING.findall(FENCE.sub("", there.read_text(encoding="utf-8")))
            if anchor not in map(slug, headings):
                wrong.append(target)
    assert wrong == []


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(prose(page))
        if not re.match(r"[a-z]+:|#", target)
    }
    pages = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs/adr/README.md"}
    assert sorted(str(p.relative_to(ROOT)) for p in pages - linked) == []


def test_every_test_that_a_page_names_exists() -> None:
    named = [
        (page, *found)
        for page in PAGES
        for found in re.findall(r"`(\w[\w/]*\.py)::(test_\w+)`", page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 40
    missing = [
        f"{page.relative_to(ROOT)}: {file}::{test}"
        for page, file, test in named
        if not (path := ROOT / "tests" / file).exists()
        or re.search(rf"^\s*(async )?def {test}\(", path.read_text(), re.MULTILINE) is None
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("routeiq models train --data a --out b", None),
        ("ROUTEIQ_MODELS_PATH=x .venv/bin/routeiq serve # a comment", None),
        ("routeiq models tarin --data a", "no command 'tarin'"),
        ("routeiq models train --dta a", "no option '--dta'"),
        ("routeiq rain", "no command 'rain'"),
    ],
)
def test_a_wrong_command_is_found(line: str, said: str | None) -> None:
    assert wrong_with(line) == said


def test_anchors_are_those_of_the_hosting_site() -> None:
    assert slug("4. Objective") == "4-objective"
    assert slug("`threshold`, and more") == "threshold-and-more"
