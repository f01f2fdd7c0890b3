"""Spectra of SDSS, APOGEE, DESI, JWST and GALAH, opened by specutils (the extra ``surveys``).

A file is recognised from its headers alone. DESI's arms are put on one grid: where pixels of two arms share a
wavelength (to 0.001 A, as they do by design) they are averaged with their inverse variances as weights.
APOGEE visits keep the wavelengths of the observer; their three chips become the windows of one grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.configs.read import ReadConfig
from draper.data.parsing import fits, fits_header, pixels
from draper.data.parsing.pixels import inverse_variance
from draper.data.parsing.source import Format, Source
from draper.data.spectra import Spectra

Headers = tuple[dict[str, Any], ...]
Array = NDArray[Any]

APOGEE_BAD = sum(1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 7, 14))
"""Bits of the APOGEE pixel mask for pixels without a usable flux (sky lines and persistence are kept)."""

JWST_BAD = 1
"""Bit of the JWST data quality flag for pixels that should not be used."""

ARM_TOLERANCE = 3
"""Decimals in Angstrom to which pixels of two arms are the same."""

COLUMNS: dict[str, tuple[str, ...]] = {
    **fits_header.FACTS,
    "object": ("OBJID", "OBJECT", "TARGNAME"),
    "ra": ("PLUG_RA", "TARG_RA", "RA"),
    "dec": ("PLUG_DEC", "TARG_DEC", "DEC"),
    "mjd": ("MJD5", "MJD", "MJD-OBS"),
    "plate": ("PLATEID", "PLATE"),
    "fiber": ("FIBERID",),
    "rv": ("VHELIO",),
    "rv_err": ("VRADERR",),
    "barycentric_velocity": ("BC",),
    "helio_correction": ("HELIO_RV",),
}


@dataclass(frozen=True)
class Survey:
    """How files of one survey are recognised and opened.

    Attributes
    ----------
    name, what
        Name and description of the format.
    label
        The name that specutils gives it.
    matches
        Whether headers belong to such a file.
    medium
        Medium of its wavelengths, by the definition of the survey.
    quantity
        What its flux is.
    """

    name: str
    what: str
    label: str
    matches: Callable[[Headers], bool]
    medium: str = "vacuum"
    quantity: str = "flux"


def _names(headers: Headers) -> set[str]:
    return {str(header.get("EXTNAME", "")).strip() for header in headers}


def _is_sdss(headers: Headers) -> bool:
    columns = {
        str(value).lower() for header in headers[1:2] for key, value in header.items() if "TTYPE" in key
    }
    return {"flux", "loglam", "ivar"} <= columns


def _is_visit(headers: Headers) -> bool:
    units = [str(header.get("BUNIT", "")) for header in headers[:5]]
    return len(units) == 5 and all(
        units[place].startswith(start) for place, start in ((1, "Flux"), (2, "Flux"), (4, "Wavelen"))
    )


def _is_star(headers: Headers) -> bool:
    return str(headers[0].get("SFILE1", "")).startswith(("apVisit", "asVisit"))


def _is_aspcap(headers: Headers) -> bool:
    return len(headers) > 4 and "ASPCAPFLAG" in {
        value for value in headers[-1].values() if isinstance(value, str)
    }


def _is_desi(headers: Headers) -> bool:
    names = _names(headers)
    return "FIBERMAP" in names and any(f"{arm}_FLUX" in names for arm in "BRZ")


def _is_jwst(headers: Headers) -> bool:
    return headers[0].get("TELESCOP") == "JWST" and "EXTRACT1D" in _names(headers)


def _is_galah(headers: Headers) -> bool:
    return "GALAH" in str(headers[0].get("ORIGIN", ""))


def _opened(source: Source, survey: Survey) -> tuple[list[Any], list[Array | None], dict[str, Any]]:
    """Return specutils' spectra, the pixel flags that it ignores, and the primary header."""
    try:
        specutils = import_module("specutils")
    except ImportError:
        raise source.error(f"{survey.what} need specutils", hint='pip install "draper[surveys]"') from None
    with fits.opened(source.path, source.unpacked_limit) as hdus:
        spectra = specutils.SpectrumList.read(hdus, format=survey.label)
        if survey.name in ("apogee-visit", "apogee-star"):
            mask = np.atleast_2d(hdus[3].data)
            mask = mask[:1] if survey.name == "apogee-star" else mask
            flags = [(mask.reshape(-1).astype(np.int64) & APOGEE_BAD) != 0]
        elif survey.name == "jwst":
            tables = [hdu.data for hdu in hdus if hdu.name == "EXTRACT1D"]
            flags = [(np.asarray(table["DQ"]).astype(np.int64) & JWST_BAD) != 0 for table in tables]
        else:
            flags = []
        header = {str(card.keyword): card.value for card in hdus[0].header.cards}
        for spectrum in spectra:  # load lazy attributes while the file is open
            spectrum.flux, spectrum.uncertainty, spectrum.mask  # noqa: B018
    return list(spectra), [*flags, *[None] * (len(spectra) - len(flags))], header


def _inverse_variance(source: Source, spectrum: Any) -> Array | None:
    """Return an uncertainty of any type as inverse variance; None if there is none."""
    uncertainty = spectrum.uncertainty
    kind = getattr(uncertainty, "uncertainty_type", "unknown")
    if uncertainty is None or kind == "unknown":
        return None
    values = np.asarray(uncertainty.array, dtype=np.float64)
    with np.errstate(all="ignore"):
        if kind == "ivar":
            return values
        if kind == "var":
            return inverse_variance(np.sqrt(values))
        if kind == "std":
            return inverse_variance(values)
    raise source.error(
        f"the type of the errors, '{kind}', is unknown", expected="std, var, ivar", hint="report this file"
    )


def _one(
    source: Source, survey: Survey, spectrum: Any, flags: Array | None, table: Mapping[str, Array]
) -> tuple[Spectra, Array]:
    """Return one of specutils' spectra as rows, and the wavelengths as the file has them."""
    from astropy import units

    try:
        wavelength = spectrum.spectral_axis.to_value(units.AA, equivalencies=units.spectral())
    except (units.UnitsError, AttributeError) as error:
        raise source.error("the file has no wavelengths", given=error, hint="report this file") from None
    wavelength = np.asarray(wavelength, dtype=np.float64)
    flux = np.atleast_2d(np.asarray(spectrum.flux.value))
    factor, unit = fits_header.flux_unit(str(spectrum.flux.unit))
    bad = np.zeros(flux.shape, dtype=bool) if spectrum.mask is None else np.atleast_2d(spectrum.mask)
    if flags is not None and flags.size == flux.size:
        bad = bad | flags.reshape(flux.shape)
    ivar = _inverse_variance(source, spectrum)
    kept = np.isfinite(wavelength) & (wavelength > 0)
    axis = pixels.axis(source, wavelength[kept], "angstrom", survey.medium)
    spectra = pixels.spectra(
        source,
        axis,
        flux[:, kept] * factor,
        ivar=None if ivar is None else np.atleast_2d(ivar)[:, kept] / factor**2,
        bad=bad[:, kept],
        table=table,
        unit=unit or ("" if "normalised" in survey.quantity else str(spectrum.flux.unit)),
        quantity=survey.quantity,
    )
    return spectra, wavelength


def _joined(source: Source, arms: list[Spectra]) -> Spectra:
    """Put arms on one grid; shared pixels are averaged with their inverse variances as weights."""
    wavelength = np.concatenate([arm.grid.vacuum for arm in arms])
    _, first, place = np.unique(np.round(wavelength, ARM_TOLERANCE), return_index=True, return_inverse=True)
    total = np.zeros((len(arms[0]), len(first)))
    weight = np.zeros_like(total)
    start = 0
    for arm in arms:
        columns = place[start : start + len(arm.grid)]
        total[:, columns] += np.asarray(arm.ivar, dtype=np.float64) * arm.flux
        weight[:, columns] += arm.ivar
        start += len(arm.grid)
    flux = np.divide(total, weight, where=weight > 0, out=np.zeros_like(total))
    axis = pixels.axis(source, wavelength[first], "angstrom", "vacuum")
    return pixels.spectra(
        source, axis, flux, ivar=weight, table=arms[0].table, unit=arms[0].unit, quantity=arms[0].quantity
    )


def _desi(source: Source, survey: Survey) -> Iterator[Spectra]:
    arms, _, header = _opened(source, survey)
    try:
        fibermap = next(arm.meta["fibermap"] for arm in arms if "fibermap" in arm.meta)
        table = {
            name: np.asarray(fibermap[column])
            for name, column in (
                ("id", "TARGETID"),
                ("ra", "TARGET_RA"),
                ("dec", "TARGET_DEC"),
                ("object_type", "OBJTYPE"),
                ("parallax", "PARALLAX"),
                ("ebv", "EBV"),
            )
            if column in fibermap.colnames
        }
    except StopIteration:
        raise source.error("the file has no FIBERMAP", hint="read a coadd or spectra file of DESI") from None
    if "object_type" in table:
        table["object_type"] = np.char.strip(table["object_type"].astype(str))
    parts = [_one(source, survey, arm, None, table)[0] for arm in arms]
    yield replace(_joined(source, parts), meta=_meta(header, survey))


def _meta(header: Mapping[str, Any], survey: Survey) -> dict[str, Any]:
    return {
        "medium": survey.medium,
        **fits_header.provenance(header),
        "opened_by": f"specutils {survey.label}",
    }


def _chips(spectra: Spectra) -> Spectra:
    """Store contiguous pieces as windows of the grid; gaps of more than ten pixels separate them."""
    wavelength = spectra.grid.vacuum
    steps = np.diff(wavelength)
    if len(steps) == 0:
        return spectra
    pieces = np.split(wavelength, np.flatnonzero(steps > 10 * np.median(steps)) + 1)
    windows = tuple((float(piece[0]), float(piece[-1])) for piece in pieces) if len(pieces) > 1 else ()
    return replace(spectra, grid=replace(spectra.grid, windows=windows))


def _redshift(source: Source) -> dict[str, Array]:
    """Return redshift and classification by the SDSS pipeline: one row of the second table."""
    wanted = {"z": "Z", "z_err": "Z_ERR", "class": "CLASS", "subclass": "SUBCLASS", "snr": "SN_MEDIAN_ALL"}
    with fits.opened(source.path, source.unpacked_limit) as hdus:
        if len(hdus) < 3 or getattr(hdus[2], "columns", None) is None or len(hdus[2].data) != 1:
            return {}
        names = {name.upper(): name for name in hdus[2].columns.names}
        columns = {
            key: np.asarray(hdus[2].data[names[name]]) for key, name in wanted.items() if name in names
        }
    return {
        name: np.char.strip(values.astype(str)) if values.dtype.kind in "SU" else values.astype(np.float64)
        for name, values in columns.items()
        if values.shape == (1,)
    }


def _reader(survey: Survey) -> Callable[[Source, ReadConfig], Iterator[Spectra]]:
    def read(source: Source, config: ReadConfig) -> Iterator[Spectra]:
        if source.kind != "fits":
            raise source.error(f"{survey.what} are FITS files", given=source.kind, hint="leave out format=")
        if survey.name == "desi":
            yield from _desi(source, survey)
            return
        opened, flags, header = _opened(source, survey)
        facts = fits_header.facts(header, COLUMNS)
        if survey.name == "sdss":
            facts |= _redshift(source)
        kind = survey
        if survey.name == "galah":
            normalised = config.quantity == "normalised flux"
            purpose = "normalised" if normalised else "reduced"
            opened = [spectrum for spectrum in opened if spectrum.meta.get("purpose") == purpose]
            kind = replace(survey, quantity="normalised flux" if normalised else "flux")
        if not opened:
            raise source.error("the file holds no such spectrum", hint="leave out quantity=")
        for number, (spectrum, flag) in enumerate(zip(opened, flags, strict=False)):
            name = source.name if len(opened) == 1 else f"{source.name}-{number}"
            table = {"id": np.array([name]), **facts}
            spectra, _ = _one(source, kind, spectrum, flag, table)
            spectra = replace(spectra, meta=_meta(header, survey))
            yield _chips(spectra) if survey.name == "apogee-visit" else spectra

    return read


def _recogniser(survey: Survey) -> Callable[[Source], bool]:
    def recognises(source: Source) -> bool:
        return source.kind == "fits" and bool(source.headers) and survey.matches(source.headers)

    return recognises


SURVEYS = (
    Survey("sdss", "SDSS and BOSS spec files", "SDSS-III/IV spec", _is_sdss),
    Survey("apogee-visit", "APOGEE apVisit files", "APOGEE apVisit", _is_visit),
    Survey("apogee-star", "APOGEE apStar files", "APOGEE apStar", _is_star),
    Survey(
        "apogee-aspcap",
        "APOGEE aspcapStar files",
        "APOGEE aspcapStar",
        _is_aspcap,
        "vacuum",
        "normalised flux",
    ),
    Survey("desi", "DESI coadd and spectra files", "DESI coadd", _is_desi),
    Survey("jwst", "JWST x1d files", "JWST x1d multi", _is_jwst),
    Survey("galah", "GALAH files of DR2 and DR3", "GALAH", _is_galah, "air"),
)

FORMATS = tuple(
    Format(survey.name, survey.what, _recogniser(survey), _reader(survey), extra="surveys")
    for survey in SURVEYS
)
