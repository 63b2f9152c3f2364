"""Numbers measured on every image series, and what is normal for its scanner and protocol.  Pure."""
