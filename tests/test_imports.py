"""The house keeps its order: who imports whom, how large the rooms are, and what starts without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import draper

ROOT = Path(draper.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

ORDER = (
    ("errors", "owner"), ("atomic_write", "config", "processes"), ("registry", "configs"), ("data",),
    ("nn",), ("train",), ("instrument",), ("results",), ("simulate",), ("infer",), ("latents",), ("plots",),
    ("models",), ("testing",), ("catalogue",),
    ("cli", "__main__"), ("web",),
)  # fmt: skip
FLOOR = {name: floor for floor, names in enumerate(ORDER) for name in names}

BLIND = {"nn": {"data", "instrument"}, "train": {"data", "instrument"}}
"""What knows no astronomy."""

EXCEPTIONS = {("data/spectra.py", "plots"), ("results/estimates.py", "plots"), ("results/report.py", "plots")}
"""`.plot()` methods import plots inside the function."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each imported module, and whether the import stands inside a function."""
    tree = ast.parse(path.read_text())
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            assert node.module is not None
            yield node.module, node in inside
            yield from ((f"{node.module}.{alias.name}", node in inside) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_come_from_above(path: Path) -> None:
    if path == ROOT / "__init__.py":
        return
    own = room(path)
    assert own in FLOOR, f"{own} is not in the plan of the house"
    for module, is_inside in imports(path):
        if not module.startswith("draper."):
            continue
        other = module.split(".")[1]
        if other not in FLOOR or other == own:  # draper.__version__
            continue
        if is_inside and (name_of(path), other) in EXCEPTIONS:
            continue
        assert FLOOR[other] <= FLOOR[own], f"{name_of(path)} imports {module}, which is below it"
        assert other not in BLIND.get(own, ()), (
            f"{name_of(path)} imports {module}, and should know no astronomy"
        )


@pytest.mark.parametrize(
    "path", [path for path in FILES if FLOOR.get(room(path), 99) <= FLOOR["data"]], ids=name_of
)
def test_data_never_imports_torch(path: Path) -> None:
    assert not any(module.split(".")[0] in ("torch", "safetensors") for module, _ in imports(path))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_are_small_and_described(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 600, "at most 600 lines"
    assert ast.get_docstring(ast.parse(source)), "a module begins with what it is about"
    assert not {"utils", "helpers", "common"} & set(path.with_suffix("").parts[-2:])


ALLOWED_CIRCLES = {
    frozenset({"data/spectra.py", "data/summary.py", "plots/spectrum.py"}),
    frozenset({"models/emulator/model.py", "models/emulator/distil.py"}),
}
"""``Spectra`` has its own summary and plot; distilling an emulator makes another one."""


def graph() -> dict[str, set[str]]:
    """Return which files each file imports, wherever in the file, also for the types alone."""
    names = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): name_of(path)
        for path in FILES
    }
    return {
        name_of(path): {names[module] for module, _ in imports(path) if module in names} - {name_of(path)}
        for path in FILES
    }


def circles(edges: dict[str, set[str]]) -> list[frozenset[str]]:
    """Return the groups of files that import each other, directly or through others (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in edges[node]:
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            groups.append(frozenset(group))

    for node in edges:
        if node not in number:
            visit(node)
    return [group for group in groups if len(group) > 1]


def test_no_import_runs_in_a_circle() -> None:
    edges = graph()
    assert len(edges) > 200
    assert "models/base.py" in edges["models/emulator/model.py"]
    for circle in circles(edges):
        assert any(circle <= allowed for allowed in ALLOWED_CIRCLES), f"a circle: {sorted(circle)}"


def test_circles_are_found() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(edges) == [frozenset("abc")]


HEAVY = "torch", "astropy", "matplotlib", "scipy", "h5py"
LIGHT = {
    "import draper": ("import draper", HEAVY),
    "registry": ("import draper.registry; draper.registry.config_class('linear')", HEAVY),
    "draper --help": ("from draper.cli import main; main(['--help'])", HEAVY),
    "draper --version": ("from draper.cli import main; main(['--version'])", HEAVY),
    "draper train --help": ("from draper.cli import main; main(['train', '--help'])", HEAVY),
    "draper train linear --help": ("from draper.cli import main; main(['train', 'linear', '--help'])", HEAVY),
    "draper tune disentangler --help": (
        "from draper.cli import main; main(['tune', 'disentangler', '--help'])",
        (*HEAVY, "optuna"),
    ),
    "GANDALF's options": (
        "from draper.models.disentangler.gandalf import OPTION_FILE as f; f.translate({'data': {}})",
        HEAVY,
    ),
    "Cycle-StarNet's options": (
        "from draper.models.translator.cyclestarnet import OPTION_FILE as f; f.translate({'DATA': {}})",
        HEAVY,
    ),
    "draper sweep linear --help": (
        "from draper.cli import main; main(['sweep', 'linear', '--help'])",
        (*HEAVY, "optuna"),
    ),
    "draper convert --help": ("from draper.cli import main; main(['convert', '--help'])", HEAVY),
    "draper predict --help": ("from draper.cli import main; main(['predict', '--help'])", HEAVY),
    **{
        f"draper {verb} ARTIFACT --help": (
            f"from draper.cli import main; main(['{verb}', 'builtin:rvs-emulator', '--help'])",
            HEAVY,
        )
        for verb in ("predict", "generate", "encode", "evaluate")
    },
    "draper information --help": ("from draper.cli import main; main(['information', '--help'])", HEAVY),
    "draper formats": ("from draper.cli import main; main(['formats'])", ("torch", "astropy", "matplotlib")),
    "draper samples": ("from draper.cli import main; main(['samples'])", ("torch", "astropy", "matplotlib")),
    "read": ("import draper; draper.samples.load('sed-grid')", ("torch", "astropy", "matplotlib")),
}


@pytest.mark.parametrize("case", LIGHT)
def test_starts_without_heavy_packages(case: str) -> None:
    code, heavy = LIGHT[case]
    end = f"import sys; print('loaded', sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{end}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded []"
