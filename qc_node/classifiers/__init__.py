"""Programs that judge: volume in, verdict out; a folder and one registration each."""
