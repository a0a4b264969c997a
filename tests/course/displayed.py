"""What a function of display shows in a notebook, for the tests of display."""

import base64
import io

import PIL.Image
from IPython.utils.capture import capture_output

WIDGET = "application/vnd.jupyter.widget-view+json"


def shown(function, *arguments, **options):
    """What function displays: a list of rich outputs, each with data, metadata and update. And what it returns."""
    with capture_output() as captured:
        result = function(*arguments, **options)
    assert captured.stderr == ""
    return captured.outputs, result


def figures(outputs) -> list:
    return [output for output in outputs if "image/png" in output.data]


def alts(outputs) -> list[str]:
    return [output.metadata.get("image/png", {}).get("alt") for output in figures(outputs)]


def way_back(outputs) -> str:
    """What stands right above the widget, for whoever opens a saved notebook and sees none."""
    text = outputs[-2].data["text/html"]
    assert WIDGET in outputs[-1].data and "Run this cell" in text
    return text


def opened(png: bytes | str) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(base64.b64decode(png) if isinstance(png, str) else png))
