"""A warning about time, in words that are meant for the user."""


class SlowExportWarning(UserWarning):
    """Networks are written as ONNX files in seconds each, and not in a tenth of a second."""
