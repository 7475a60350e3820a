"""open_clip models as functions of a flat parameter vector, their inputs, and the device that they compute on."""
