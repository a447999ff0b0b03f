"""What the documentation says is so."""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import typer

import embedsearch as es
from embedsearch.cli.app import app
from embedsearch.cli.main import _COMMANDS, run
from embedsearch.registry import INDEXES, POOLING

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}


def block(language):
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL).group(1).strip()


@pytest.fixture
def somewhere(tmp_path, monkeypatch, emoji):
    """A folder with what the README speaks of; nothing is downloaded."""
    (tmp_path / "photos").mkdir()
    for path in emoji["twitter"][:7]:
        shutil.copy(path, tmp_path / "photos")
    shutil.copy(emoji["google"][2], tmp_path / "cat.jpg")  # Pillow looks at the content, not at the name
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("embedsearch.backbones.vision_weights._downloaded", lambda entry: None)
    return tmp_path


def test_the_python_of_the_readme_runs(somewhere):
    code = block("python")
    assert len(code.splitlines()) == 5
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["hits"]) == len(names["alike"]) == 5
    assert names["ids"][0, 0] == names["hits"][0].id and names["scores"].shape == (1, 5)


def test_the_shell_of_the_readme_runs(somewhere, capsys):
    lines = block("sh").splitlines()
    assert len(lines) == 3
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "embedsearch"
        with pytest.raises(SystemExit) as end:
            run(arguments)
        assert end.value.code == 0, capsys.readouterr().err
    assert (somewhere / "answer.png").exists() and len(es.open("indexes/photos")) == 7


def test_the_page_of_commands_says_what_the_commands_take():
    """Every option with its help, and none that is gone; the layout is typer's, and may change with it."""
    sections = dict(
        re.findall(r"^## embedsearch (\w+)\n(.*?)(?=^## |\Z)", PAGES["commands.md"], re.DOTALL | re.MULTILINE)
    )
    for name in _COMMANDS:
        import_module(f"embedsearch.cli.{name}")
    commands = typer.main.get_command(app).commands
    assert set(sections) == set(commands) == set(_COMMANDS), "run: python docs/commands.py > docs/commands.md"
    for name, command in commands.items():
        page = "".join(sections[name].split())
        options = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        for parameter in command.params:
            # words are broken at hyphens where a line ends
            assert "".join(str(parameter.help).split()) in page, f"{name}: {parameter.name} is not as its help says"
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", sections[name]))
        assert {option for option in options if option.startswith("--")} <= named
        others = {option for other in commands.values() for p in other.params for option in p.opts}
        assert named <= options | others | {"--help", "--debug", "--no-normalize"}, "an option that is gone"


def test_registered_names_stand_in_the_docs():
    everything = "\n".join(PAGES.values())
    for name in [*POOLING, *INDEXES, "vgg16", "resnet50", "bert", "minilm"]:
        assert re.search(rf"\b{name}\b", everything), name


def test_links_lead_somewhere():
    for page, text in PAGES.items():
        folder = ROOT if page == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (folder / target).exists(), f"{page} links to {target}"


def test_the_readme_has_two_commands_of_set_up():
    setup = README.split("## Set-up")[1].split("## ")[0]
    assert re.findall(r"^    (make \w+)", setup, re.MULTILINE) == ["make demo", "make test"]


def test_the_layers_in_the_design_page_are_those_that_are_checked():
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = [set(re.split(r" [|:] ", layer)) for layer in contracts[0]["layers"]]
    packages = {
        path.name.removesuffix(".py") for path in (ROOT / "embedsearch").iterdir() if not path.name.startswith("_")
    }
    assert set().union(*checked) == packages - {"py.typed"}
    rows = re.findall(r"^\| \d \| (.*?) \|", PAGES["design.md"], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set().union(*checked)
