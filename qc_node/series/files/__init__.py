"""What a person hands over: files, folders, archives and NIfTI, as series."""
