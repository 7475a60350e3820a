"""open_clip models as functions of a flat parameter vector, and what they compute on."""
