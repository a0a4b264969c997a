"""Makes emoji.png and emoji.jsonl, beside this script, out of the font Noto Color Emoji.

    apt-get install fonts-noto-color-emoji    # Debian 12's: version 2.042
    pip install emoji==2.16.0                 # Unicode's names for them; not needed to take the course
    python data/build_emoji.py

emoji.png is a sheet of 32x32 cells, 40 in a row, from left to right and from top to bottom. Line i of emoji.jsonl names
the emoji in cell i: {"emoji": "🍎", "en": "red apple", "zh": "红苹果"}. Same font and names, same pixels and lines; the
bytes of emoji.png also depend on the compressor that Pillow brings.
"""

import hashlib
import json
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

FONT = "NotoColorEmoji.ttf"  # Pillow finds it where the system keeps its fonts
FONT_CHECKSUM = "e5899ed38b8ed83e08bd3ac5de09791e9d19d288333a796de1d35ad17396f1ec"  # sha256 of version 2.042
EMOJI_VERSION = "2.16.0"
LANGUAGES = ("en", "zh")
FONT_SIZE, CANVAS = 109, 136  # the font holds pictures of one size, 136x128, which FreeType calls size 109
CELL, COLUMNS = 32, 40
FAINT = 15  # of 255: some pictures have stray pixels that nobody sees, which must not push them out of the middle
VARIATION_SELECTOR = "\ufe0f"  # "in colour, please": the font has nothing but colour
SKIN_TONES = range(0x1F3FB, 0x1F400)


def named_emoji() -> list[dict[str, str]]:
    """{"emoji", "en", "zh"} of every fully qualified emoji that is a single character, in Unicode's order.

    So flags of countries, keycaps, and whatever is joined (families, professions, skin tones) are left out.
    """
    import emoji

    emoji.config.load_language(list(LANGUAGES))
    rows = []
    for sequence, entry in emoji.EMOJI_DATA.items():
        character = sequence.removesuffix(VARIATION_SELECTOR)
        if entry["status"] != emoji.STATUS["fully_qualified"] or len(character) != 1 or ord(character) in SKIN_TONES:
            continue
        if all(language in entry for language in LANGUAGES):
            rows.append({"emoji": sequence} | {language: caption(entry[language]) for language in LANGUAGES})
    return sorted(rows, key=lambda row: row["emoji"])


def caption(name: str) -> str:
    """':Mrs._Claus:' -> 'mrs. claus'"""
    return " ".join(name.replace(":", " ").replace("_", " ").lower().split())


def draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    """The emoji in the middle of a white CELL x CELL picture, in its own size; None where the font does not have it."""
    large = Image.new("RGB", (CANVAS, CANVAS), "white")
    left, top, _, _ = font.getbbox(character)
    ImageDraw.Draw(large).text((-left, -top), character, font=font, embedded_color=True)
    ink = ImageChops.invert(large).point(lambda value: value if value > FAINT else 0).getbbox()
    if ink is None:
        return None
    centred = Image.new("RGB", (CANVAS, CANVAS), "white")
    centred.paste(large, ((CANVAS - ink[0] - ink[2]) // 2, (CANVAS - ink[1] - ink[3]) // 2))
    return centred.resize((CELL, CELL), Image.Resampling.LANCZOS)


def build(font: ImageFont.FreeTypeFont) -> tuple[Image.Image, str]:
    """The sheet and the lines. Of emoji that look alike, or share a caption in a language, only the first is kept."""
    kept, pictures, seen = [], [], set()
    for row in named_emoji():
        picture = draw(row["emoji"][0], font)
        if picture is None:
            continue
        marks = {("picture", picture.tobytes())} | {(language, row[language]) for language in LANGUAGES}
        if seen.isdisjoint(marks):
            seen |= marks
            kept.append(row)
            pictures.append(picture)
    sheet = Image.new("RGB", (COLUMNS * CELL, -(-len(kept) // COLUMNS) * CELL), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % COLUMNS * CELL, i // COLUMNS * CELL))
    return sheet, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)


def difference() -> str:
    """What of this machine is not what the course's files were made with, in a sentence; empty where nothing is."""
    try:
        import emoji

        font = ImageFont.truetype(FONT, FONT_SIZE)
    except ImportError:
        return f"the package emoji is missing: pip install emoji=={EMOJI_VERSION}"
    except OSError:
        return f"the font {FONT} is missing or unreadable: apt-get install fonts-noto-color-emoji"
    if emoji.__version__ != EMOJI_VERSION:
        return f"the package emoji is version {emoji.__version__}, and the files were made with {EMOJI_VERSION}"
    if hashlib.sha256(Path(font.path).read_bytes()).hexdigest() != FONT_CHECKSUM:
        return f"the font {FONT} is another version than the 2.042 that the files were made with"
    return ""


def main() -> None:
    if why := difference():
        if "missing" in why:
            raise SystemExit(why)
        print(f"{why}; the files will differ.")
    sheet, lines = build(ImageFont.truetype(FONT, FONT_SIZE))
    folder = Path(__file__).parent
    sheet.save(folder / "emoji.png", optimize=True)
    (folder / "emoji.jsonl").write_text(lines, encoding="utf-8", newline="\n")
    for name in ("emoji.png", "emoji.jsonl"):
        content = (folder / name).read_bytes()
        print(f"{name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    print(f"{len(lines.splitlines()):,} emoji. The doctor compares: ddpm_core/course/doctor.py, CHECKSUMS.")


if __name__ == "__main__":
    main()
