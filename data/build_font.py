"""Makes NotoSansSC-subset.otf, beside this script, out of the font Noto Sans CJK: the Chinese characters of the course.

    apt-get install fonts-noto-cjk    # Debian 12's: 2.004 of the font; not needed to take the course
    python data/build_font.py

In it are the characters of the emoji's Chinese names (emoji.jsonl), of the Chinese captions of digit scenes
(ddpm_core/data/digit_scenes.py) and Chinese punctuation; nothing else, as matplotlib's own font has the rest. Same
font, same characters and same fontTools (which comes with matplotlib), same bytes. The licence is in OFL.txt.
"""

import hashlib
import io
import json
from pathlib import Path

import fontTools
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTCollection
from PIL import ImageFont

from ddpm_core.data.digit_scenes import COLOURS_ZH, DIGITS_ZH, WORDINGS

FONTS = "NotoSansCJK-Regular.ttc"  # Pillow finds it where the system keeps its fonts
FONTS_CHECKSUM = "b76b0433203017ca80401b2ee0dd69350349871c4b19d504c34dbdd80541690a"  # sha256 of version 2.004
FONTTOOLS_VERSION = "4.68.0"
FACE = "Noto Sans CJK SC"  # which of the fonts in the file
FAMILY = "Noto Sans SC Subset"  # what ours is called; not as the whole font, which a reader may have, too
FILE = "NotoSansSC-subset.otf"
PUNCTUATION = "，。、：；！？（）《》“”"
KEPT_NAMES = [0, 5, 7, 13, 14]  # of a font's table of names: copyright, version, trademark, licence and its address
POSTSCRIPT_NAME = FAMILY.replace(" ", "") + "-Regular"
OUR_NAMES = {1: FAMILY, 2: "Regular", 3: POSTSCRIPT_NAME, 4: FAMILY, 6: POSTSCRIPT_NAME}  # family, style, id, full name
UNUSED_TABLES = ["BASE", "GDEF", "GPOS", "GSUB", "VORG", "vhea", "vmtx"]  # for vertical lines and finer setting


def characters() -> str:
    """What the font holds, in Unicode's order."""
    lines = (Path(__file__).parent / "emoji.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["zh"] for line in lines]
    texts += [*COLOURS_ZH.values(), DIGITS_ZH, PUNCTUATION]
    texts += [wording for (language, _), wordings in WORDINGS.items() if language == "zh" for wording in wordings]
    return "".join(sorted({character for character in "".join(texts) if not character.isascii()}))


def build(path: str) -> bytes:
    """The font, out of the file of the whole ones. Raises KeyError where that lacks a character."""
    font = next(font for font in TTCollection(path, lazy=True).fonts if font["name"].getDebugName(1) == FACE)
    font.recalcTimestamp = False  # or the bytes would tell when they were made
    wanted = {ord(character) for character in characters()}
    if missing := wanted - set(font.getBestCmap()):
        raise KeyError(f"{FACE} lacks {''.join(map(chr, sorted(missing)))}")
    options = Options(hinting=False, layout_features=[], notdef_outline=True, name_IDs=KEPT_NAMES)
    options.drop_tables += UNUSED_TABLES
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=wanted)
    subsetter.subset(font)
    for number, text in OUR_NAMES.items():
        font["name"].setName(text, number, 3, 1, 0x409)  # Windows, Unicode, American English
    outlines = font["CFF "].cff  # they have names of their own
    outlines.fontNames = [POSTSCRIPT_NAME]
    outlines[POSTSCRIPT_NAME].FamilyName = outlines[POSTSCRIPT_NAME].FullName = FAMILY
    file = io.BytesIO()
    font.save(file)
    return file.getvalue()


def difference() -> str:
    """What of this machine is not what the course's font was made with, in a sentence; empty where nothing is."""
    try:
        path = ImageFont.truetype(FONTS).path
    except OSError:
        return f"the font {FONTS} is missing or unreadable: apt-get install fonts-noto-cjk"
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != FONTS_CHECKSUM:
        return f"the font {FONTS} is another version than the 2.004 that the file was made with"
    if fontTools.version != FONTTOOLS_VERSION:
        return f"fontTools is version {fontTools.version}, and the file was made with {FONTTOOLS_VERSION}"
    return ""


def main() -> None:
    if why := difference():
        if "missing" in why:
            raise SystemExit(why)
        print(f"{why}; the file may differ.")
    content = build(ImageFont.truetype(FONTS).path)
    (Path(__file__).parent / FILE).write_bytes(content)
    print(f"{FILE}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    print(f"{len(characters()):,} characters. The doctor compares: ddpm_core/course/doctor.py, CHECKSUMS.")


if __name__ == "__main__":
    main()
