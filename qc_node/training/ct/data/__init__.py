"""The CT pack and the cases that the networks are tested on."""
