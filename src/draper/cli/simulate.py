"""``draper simulate``: spectra with known truth, streamed to a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import track

from draper.cli.adapters import run
from draper.cli.output import say, say_json
from draper.errors import DraperError, Interrupted

if TYPE_CHECKING:
    from draper.data.spectra import Spectra
    from draper.simulate.base import Simulator

Output = Annotated[Path, Parameter(name=["--out", "-o"])]
Number = Annotated[int | None, Parameter(name=["--number", "-n"])]
Ratio = Annotated[str | None, Parameter(name="--snr")]
Json = Annotated[bool, Parameter(name="--json")]

app = App(name="simulate", help="Make spectra whose truth is known.")
app.command(run)


@app.command
def stars(
    *,
    out: Output,
    number: Number = None,
    labels: Path | None = None,
    preset: str = "gaia-rvs",
    population: Literal["galaxy", "box"] = "galaxy",
    snr: Ratio = None,
    vsini: float | None = None,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Simulate stars as a survey records them.

    Example: draper simulate stars -n 20000 -o stars.h5 --preset gaia-rvs-800 --seed 1

    Parameters
    ----------
    out
        The file to write; .h5 takes any number in constant memory.
    number
        How many stars to draw.
    labels
        A table of labels to simulate instead (CSV, ECSV, FITS, VOTable).
    preset
        gaia-rvs (2,401 pixels), gaia-rvs-800, or ideal (no noise, no errors).
    population
        galaxy draws stars of the discs and the halo, box labels evenly from what the grid covers.
    snr
        Signal-to-noise ratios per pixel in place of the preset's: LOW,HIGH, one number for all, or inf for
        no noise.
    vsini
        Rotation of all stars [km/s].
    seed
        Decides everything that is random.
    json
        Print JSON.
    """
    from draper.simulate.survey import Survey

    survey = Survey(preset, population=population, snr=ratios(snr), vsini=vsini)
    _write(survey, number, labels, seed, out, json)


@app.command
def xp(
    *,
    out: Output,
    number: Number = None,
    labels: Path | None = None,
    preset: str = "gaia-xp",
    population: Literal["galaxy", "box"] = "galaxy",
    snr: Ratio = None,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Simulate stars as Gaia's photometers see them, with photometry and parallax.

    Example: draper simulate xp -n 20000 -o xp.h5 --seed 1

    Parameters
    ----------
    out
        The file to write; .h5 takes any number in constant memory.
    number
        How many stars to draw.
    labels
        A table of labels to simulate instead (CSV, ECSV, FITS, VOTable): teff, logg, fe_h, alpha_fe; mass,
        a_v and magnitude (G) are drawn where the table has no such column.
    preset
        gaia-xp (55 + 55 coefficients with correlations) or gaia-xp-sampled (343 pixels).
    population
        galaxy draws stars of the discs and the halo, box labels evenly from what the grid covers.
    snr
        Signal-to-noise ratios of the first coefficient of RP, in place of what the magnitude gives: LOW,HIGH,
        one number for all, or inf for no noise.
    seed
        Decides everything that is random.
    json
        Print JSON.
    """
    from draper.simulate.lowres import LowResolution

    survey = LowResolution(preset, population=population, snr=ratios(snr))
    _write(survey, number, labels, seed, out, json)


@app.command
def planets(
    *,
    out: Output,
    number: Number = None,
    labels: Path | None = None,
    instrument: str | None = None,
    error: float | None = None,
    snr: Ratio = None,
    clouds: bool = False,
    haze: bool = False,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Simulate transmission spectra of hot Jupiters.

    Example: draper simulate planets -n 10000 -o planets.h5 --instrument jwst-nirspec-prism

    Parameters
    ----------
    out
        The file to write; .h5 takes any number in constant memory.
    number
        How many planets to draw.
    labels
        A table of labels to simulate instead (CSV, ECSV, FITS, VOTable).
    instrument
        hst-wfc3-g141, jwst-nirspec-prism, jwst-niriss-soss or ariel-tier2; all bins of R = 100 unless given.
    error
        Error bar of each bin [ppm], with noise drawn from it, in place of the instrument's.
    snr
        Ratios of the median depth to the error of a bin, in place of that: LOW,HIGH, one number for all, or
        inf for no noise.
    clouds
        Whether there is a grey cloud deck (label log_cloud_top).
    haze
        Whether there is haze (label log_haze).
    seed
        Decides everything that is random.
    json
        Print JSON.
    """
    from draper.simulate.planets import Planets

    simulator = Planets(instrument, error=error, snr=ratios(snr), clouds=clouds, haze=haze)
    _write(simulator, number, labels, seed, out, json)


def ratios(text: str | None) -> tuple[float, float] | None:
    """Return the range that a user asked for.

    Examples
    --------
    >>> ratios("20,200"), ratios("inf"), ratios("50")
    ((20.0, 200.0), (inf, inf), (50.0, 50.0))
    """
    if text is None:
        return None
    from draper.simulate.base import require_ratios

    ends: Any = text.split(",")
    return require_ratios(ends if len(ends) > 1 else ends * 2)


def _write(
    simulator: Simulator, number: int | None, table: Path | None, seed: int, out: Path, json: bool
) -> None:
    import torch

    from draper.data.io import write
    from draper.data.join import read_table
    from draper.train.signals import stop_request

    if (number is None) == (table is None):
        raise DraperError(
            "say how many to draw, or which labels to simulate",
            given=f"-n {number}, --labels {table}",
            expected="one of the two",
        )
    what: Any = number if table is None else read_table(table)
    made = 0
    # Blocks are small: threads would wait for each other, many times as long on a busy machine.
    torch.set_num_threads(1)

    def counted() -> Iterator[Spectra]:
        nonlocal made
        console = Console(file=sys.stderr)
        steps = simulator.blocks(what)
        for batch in track(
            simulator.stream(what, seed),
            "simulating",
            total=steps,
            console=console,
            disable=not console.is_terminal,
        ):
            made += len(batch)
            yield batch
            if request.number:  # raised here, so that the writer clears away what it has begun
                raise Interrupted(
                    request.number,
                    f"interrupted after {made:,} spectra; nothing was written",
                    hint="run the same again for the same spectra",
                )

    with stop_request() as request:
        write(counted(), out)
    if json:
        say_json({"path": out, "spectra": made, "grid": repr(simulator.grid), "seed": seed})
    else:
        say(f"{made:,} spectra written to {out}")
