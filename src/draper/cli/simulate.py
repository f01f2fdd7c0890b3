"""``draper simulate``: spectra with known truth, streamed to a file; a subcommand for each simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from draper.cli.adapters import run
from draper.cli.output import say, say_json
from draper.cli.parameters import Json, Output, Overwrite
from draper.cli.progress import progress
from draper.configs.simulators import SIMULATORS, SimulatorConfig
from draper.errors import DraperError, Interrupted

if TYPE_CHECKING:
    from draper.data.spectra import Spectra


def make_app() -> App:
    """Return the command with a subcommand for each simulator."""
    app = App(name="simulate", help="Simulate spectra with known labels.")
    for name, config in SIMULATORS.items():
        app.command(_command(config), name=name)
    app.command(run)
    return app


def _command(config: type[SimulatorConfig]) -> Callable[..., None]:
    """Return the function whose parameters are the options of a simulator."""

    def simulate(
        *,
        out: Output,
        number: Annotated[int | None, Parameter(name=["--number", "-n"])] = None,
        labels: Path | None = None,
        options: Any,
        seed: int = 0,
        overwrite: Overwrite = False,
        json: Json = False,
    ) -> None:
        _write(options, number, labels, seed, out, overwrite, json)

    simulate.__doc__ = f"""{config.summary}

    Example: draper simulate {config.name} {config.example}

    Parameters
    ----------
    out
        File to write; .h5 takes any number of spectra in constant memory.
    number
        Number of spectra, with labels drawn at random; 1 or larger.
    labels
        Table of labels to simulate instead (CSV, ECSV, FITS, VOTable, Parquet), one row for each spectrum.
        {config.labels_help}
    seed
        Seed of all random numbers; 0 or larger.
    json
        Print the result as JSON.
    """
    simulate.__annotations__["options"] = Annotated[config, Parameter(name="*")]
    assert simulate.__kwdefaults__ is not None
    simulate.__kwdefaults__["options"] = config()
    return simulate


app = make_app()


def _write(
    options: SimulatorConfig,
    number: int | None,
    table: Path | None,
    seed: int,
    out: Path,
    overwrite: bool,
    json: bool,
) -> None:
    import torch

    from draper.atomic_write import require_output
    from draper.data.export import bytes_needed, write
    from draper.data.join import read_table
    from draper.train.signals import stop_request

    simulator = options.build()
    if (number is None) == (table is None):
        raise DraperError(
            "a simulation needs either a number of spectra or a table of labels",
            given=f"-n {number}, --labels {table}",
            expected="one of the two",
            hint="give -n NUMBER or --labels TABLE",
        )
    what: Any = number if table is None else read_table(table)
    if size := bytes_needed(simulator.count(what), len(simulator.grid), out):
        require_output(out, overwrite=overwrite, size=size)
    written = 0
    # Blocks are small: threads would wait for each other, many times as long on a busy machine.
    torch.set_num_threads(1)

    def counted() -> Iterator[Spectra]:
        nonlocal written
        for block, batch in enumerate(simulator.stream(what, seed), start=1):
            written += len(batch)
            done(block, simulator.blocks(what))
            yield batch
            if request.number:  # raised here, so that the writer removes the unfinished file
                raise Interrupted(
                    request.number,
                    f"interrupted after {written:,} spectra; nothing was written",
                    hint="run the same again for the same spectra",
                )

    with progress("simulating blocks of spectra") as done, stop_request() as request:
        write(counted(), out, overwrite=overwrite)
    if json:
        say_json({"path": out, "spectra": written, "grid": repr(simulator.grid), "seed": seed})
    else:
        say(f"{written:,} spectra written to {out}")
