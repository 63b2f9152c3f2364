"""What a file says about itself before it is sent: SOP class, instance and transfer syntax."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from qc_node.domain import QcNodeError


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A DICOM file that can be sent.

    ``path`` is a complete Part 10 file; ``source`` is the file it was made from where it had no, or no complete,
    file meta information (else the same).
    """

    path: Path
    source: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def open_object(path: Path, scratch: Path | None = None) -> StoredObject:
    """What is needed to send `path`.

    Parameters
    ----------
    path
        A DICOM file, with or without preamble and file meta information.
    scratch
        Folder for a completed copy of a file whose meta information is missing or incomplete; its data set stays
        byte for byte.  None: such a file is an error.

    Raises
    ------
    QcNodeError
        The file is gone, no DICOM file, or names no SOP class or instance.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], force=scratch is not None)
    except FileNotFoundError:
        raise QcNodeError(f"The file {path} is gone.") from None
    except OSError as error:
        raise QcNodeError(f"The file {path} cannot be read: {error.strerror or error}.") from error
    except InvalidDicomError:
        raise QcNodeError(f"The file {path} is not a DICOM file.") from None
    except Exception as error:
        # pydicom raises whatever its parser trips over; the file is somebody else's.
        raise QcNodeError(f"The file {path} cannot be read as DICOM ({type(error).__name__}).") from error
    meta = ds.file_meta
    sop_class, instance = _text(ds, "SOPClassUID"), _text(ds, "SOPInstanceUID")
    syntax = _text(meta, "TransferSyntaxUID")
    complete = (_text(meta, "MediaStorageSOPClassUID"), _text(meta, "MediaStorageSOPInstanceUID"))
    if syntax and all(complete):
        return StoredObject(path, path, complete[0], complete[1], syntax)
    if not (sop_class and instance):
        raise QcNodeError(f"The file {path} is not a DICOM object: it names no SOP class and instance.")
    if scratch is None:
        raise QcNodeError(f"The file {path} has no complete file meta information.")
    return _completed(path, scratch, sop_class, instance, syntax)


def _text(ds: object, keyword: str) -> str:
    try:
        return str(getattr(ds, keyword, "") or "").strip()
    except Exception:
        return ""


def _completed(path: Path, scratch: Path, sop_class: str, instance: str, syntax: str) -> StoredObject:
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomFileLike
    from pydicom.filereader import read_partial
    from pydicom.filewriter import write_file_meta_info

    with path.open("rb") as stream:
        head = read_partial(stream, stop_when=lambda tag, vr, length: True, force=True)
        start = stream.tell()
        stream.seek(0)
        data = stream.read()[start:]
    implicit, little = head.original_encoding
    if not syntax:
        if not little:
            syntax = "1.2.840.10008.1.2.2"
        else:
            syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = syntax
    copy = scratch / f"{len(list(scratch.iterdir()))}.dcm"
    with copy.open("wb") as out:
        out.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(DicomFileLike(out), meta, enforce_standard=True)
        out.write(data)
    return StoredObject(copy, path, sop_class, instance, syntax)
