"""What the node knows of one series, and pictures of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response

from qc_node.classifiers import catalogue
from qc_node.dicom.uids import is_uid
from qc_node.web import measurements
from qc_node.web.access.identity import Anyone, deps_of, may_look
from qc_node.web.access.readers import Reader
from qc_node.web.pages import phrases
from qc_node.web.pages.row_number import RowNumber

router = APIRouter()


@router.get("/api/series/{uid}", tags=["series"])
def series(request: Request, uid: str, reader: Anyone) -> dict[str, Any]:
    """What the node knows of one series, as ``classify --json`` prints it, and how far it got.

    Where several studies have a series with this UID, it is the one that received last.
    """
    if not is_uid(uid):
        raise HTTPException(422, "This is not a DICOM UID.")
    deps = deps_of(request)
    row = deps.ledger.series.get(uid)
    if row is None:
        raise HTTPException(404, "This series is not known here.")
    given = deps.ledger.verdicts.of(row["series_id"], row["run"])
    verdict = given[0] if given else None
    if reader is not None and verdict is not None:
        deps.ledger.readers.saw_verdict(reader.reader_id, [row["study_uid"]], deps.clock())
    out: dict[str, Any] = {
        "series_instance_uid": uid,
        "study_instance_uid": row["study_uid"],
        "modality": row["modality"],
        "instances": row["instances"],
        "state": row["state"],
        "run": row["run"],
        "stage": row["stage"],
        "skipped": row["sentence"] if row["state"] in ("skipped", "failed") else None,
        "model": None,
        "results": {},
        "header": {},
        "warnings": [],
        "summary": row["sentence"],
        "notes": phrases.notes(deps.ledger.series.events(row["series_id"])),
        "timings_s": {},
        **measurements.NOTHING,
    }
    measured = measurements.of_series(deps.ledger, [row["series_id"]]).get(row["series_id"])
    if measured is not None:
        out |= measured.as_json()
    if verdict is not None:
        model = verdict["verdict"].model
        out |= {
            "stage": verdict["stage"],
            "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
            "results": catalogue.results_json([one["verdict"] for one in given]),
            "header": _header(verdict["claims"]),
            "warnings": verdict["warnings"],
            "summary": catalogue.in_words([one["verdict"] for one in given], verdict["warnings"]),
            "timings_s": verdict["timings"],
        }
    return out


def _header(claims: dict[str, Any]) -> dict[str, Any]:
    words = bool(claims.get("gadolinium_words"))
    return {"gadolinium_words": words, "claims": {k: v for k, v in claims.items() if k != "gadolinium_words"}}


@router.get("/api/measures/{series_id}", tags=["series"])
def measures(request: Request, series_id: RowNumber, reader: Anyone) -> dict[str, Any]:
    """What was measured of one series, by its number here, beside what is usual on its scanner, as a table."""
    deps = deps_of(request)
    found = measurements.of_series(deps.ledger, [series_id]).get(series_id)
    if found is None:
        raise HTTPException(404, "Nothing was measured of this series.")
    return measurements.table_of(deps.ledger, found)


@router.get("/thumbnails/{name}", include_in_schema=False)
def thumbnail(
    request: Request,
    reader: Annotated[Reader | None, Depends(may_look)],
    name: Annotated[str, Path(pattern=r"^[0-9a-f]{32}-[a-z0-9_-]{1,40}\.png$")],
) -> Response:
    """One picture; its name is a digest that the spool chose."""
    try:
        data = deps_of(request).spool.path(f"thumbnails/{name}").read_bytes()
    except OSError as error:
        raise HTTPException(404, "This picture is not kept any more.") from error
    return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=86400, immutable"})
