"""What DICOM is, written once: identifiers, headers, files, and calls to other application entities."""
