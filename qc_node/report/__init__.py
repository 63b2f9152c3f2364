"""Reports: verdicts and votes become DICOM objects, and back.  Pure functions of their arguments."""
