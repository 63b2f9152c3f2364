"""qc-node: a PACS-integrated DICOM node that judges image quality while it still matters."""

__version__ = "0.2.0"
