"""Makes emoji/STYLE.webp, seven of them, and emoji.jsonl, beside this script, out of sets of vector graphics.

    npm install --prefix build/icons @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 \
        @iconify-json/twemoji@1.2.5 @iconify-json/openmoji@1.2.29 @iconify-json/fluent-emoji@1.2.7 \
        @iconify-json/fluent-emoji-flat@1.2.6 @iconify-json/emojione@1.2.3
    pip install resvg-py==0.5.0 emoji==2.16.0    # they draw and name the emoji; not needed to take the course
    python data/build_emoji.py build/icons

Line i of emoji.jsonl is about the emoji in cell i of every sheet: how it is called, which styles have it (elsewhere its
cell is white), and which of them is withheld from training, if any:
{"emoji": "🚀", "en": "rocket", "zh": "火箭", "styles": ["noto", "blob", ...], "withheld": null}. A sheet has cells of
64x64, 40 in a row, from left to right and from top to bottom. Same packages, same pixels and lines; the bytes of a
sheet also depend on the compressor that Pillow brings.
"""

import hashlib
import importlib.metadata
import io
import json
import re
import sys
import unicodedata
from pathlib import Path

from PIL import Image, ImageChops

PACKAGES = {  # of npm: name, version, and how much its drawings are enlarged, so that all styles are of one size
    "noto": ("noto", "1.2.9", 0.97),
    "blob": ("noto-v1", "1.2.5", 0.92),
    "twemoji": ("twemoji", "1.2.5", 0.92),
    "openmoji": ("openmoji", "1.2.29", 1.2),
    "fluent": ("fluent-emoji", "1.2.7", 1.04),
    "flat": ("fluent-emoji-flat", "1.2.6", 1.04),
    "emojione": ("emojione", "1.2.3", 0.97),
}
PYTHON_PACKAGES = {"resvg-py": "0.5.0", "emoji": "2.16.0"}
LANGUAGES = ("en", "zh")
NEWEST = 15  # version of Unicode's emoji: later ones are missing in several styles
CANVAS, LARGEST = 128, 120  # pixels: what is drawn on, and the longest side of a drawing there
CELL, COLUMNS = 64, 40
LEVELS = 64  # of each colour, which nobody tells from 256, and the sheets are a quarter smaller
FAINT = 15  # of 255: some drawings have stray pixels that nobody sees, which must not push them out of the middle
WITHHELD = 57  # names of each style
VARIATION_SELECTOR = "\ufe0f"  # "in colour, please": the sets have nothing but colour
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
        is_whole = entry["status"] == emoji.STATUS["fully_qualified"] and entry["E"] <= NEWEST
        if is_whole and len(character) == 1 and ord(character) not in SKIN_TONES:
            rows.append({"emoji": sequence} | {language: caption(entry[language]) for language in LANGUAGES})
    return sorted(rows, key=lambda row: row["emoji"])


def caption(name: str) -> str:
    """':Mrs._Claus:' -> 'mrs. claus'"""
    return " ".join(name.replace(":", " ").replace("_", " ").lower().split())


def slugs(name: str) -> list[str]:
    """What the sets may call an emoji: 'piñata' -> ['pinata'], 'up! button' -> ['up-exclamation-button', 'up-button']

    Where both are there, the second may be another emoji.
    """
    letters = unicodedata.normalize("NFKD", re.sub("['’]", "", name)).encode("ascii", "ignore").decode()
    spelt = [letters.replace("!", " exclamation"), letters]
    return list(dict.fromkeys(re.sub("[^a-z0-9]+", "-", letters).strip("-") for letters in spelt))


def vector_graphic(icons: dict, name: str, names: set[str]) -> tuple[str, float] | None:
    """The emoji of that slug as SVG, square, and its side in units of the set's usual one; None where the set lacks it.

    names: the slugs of all emoji. Some sets have the insect "cricket" as an alias of the game "cricket-game": an alias
    of another emoji does not count, unless it is turned round.
    """
    alias = icons.get("aliases", {}).get(name, {})
    parent = alias.get("parent", name)
    icon = icons["icons"].get(parent)
    if icon is None or (alias.keys() == {"parent"} and parent in names):
        return None
    width, height = (icon.get(side, icons[side]) for side in ("width", "height"))
    side = max(width, height)
    turn = f'transform="translate({width}) scale(-1 1)"' if alias.get("hFlip") else ""
    box = f"{(width - side) / 2} {(height - side) / 2} {side} {side}"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}">'
    return f"{svg}<g {turn}>{icon['body']}</g></svg>", side / icons["width"]


def draw(svg: str, side: int) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The drawing on a white square of side pixels, and where its ink is: left, top, right, bottom."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, background="white", skip_system_fonts=True)
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    return picture, ImageChops.invert(picture).point(lambda value: value if value > FAINT else 0).getbbox()


def cell(svg: str, side: float) -> Image.Image:
    """The drawing as it stands in a sheet, in the middle and with a white margin. side: of the drawing, in pixels.

    Halved by averaging, since sharper filters such as Lanczos leave faint rings on the white beside every edge, which
    a diffusion model would learn to draw.
    """
    picture, ink = draw(svg, round(side))
    longest = max(ink[2] - ink[0], ink[3] - ink[1])
    if longest > LARGEST:
        picture, ink = draw(svg, int(side * (LARGEST - 1) / longest))
    drawing = picture.crop(ink)
    centred = Image.new("RGB", (CANVAS, CANVAS), "white")
    centred.paste(drawing, ((CANVAS - drawing.width) // 2, (CANVAS - drawing.height) // 2))
    halved = centred.resize((CELL, CELL), Image.Resampling.BOX)
    return halved.point(lambda value: round(round(value / 255 * (LEVELS - 1)) / (LEVELS - 1) * 255))


def withhold(rows: list[dict]) -> None:
    """Marks WITHHELD names of each style, of those that two other styles have; no name in two styles.

    They are drawn by a checksum of style and name, so the list stays as it is when a name is added.
    """
    for style in PACKAGES:
        free = [row for row in rows if style in row["styles"] and len(row["styles"]) > 2 and not row["withheld"]]
        free.sort(key=lambda row: hashlib.sha256(f"{style} {row['en']}".encode()).hexdigest())
        for row in free[:WITHHELD]:
            row["withheld"] = style


def build(folder: Path) -> tuple[dict[str, Image.Image], str]:
    """The sheet of each style, and the lines."""
    rows, sheets = [row | {"styles": [], "withheld": None} for row in named_emoji()], {}
    names = {name for row in rows for name in slugs(row["en"])}
    for style, (package, _, enlarged) in PACKAGES.items():
        icons = json.loads((path_of(folder, package) / "icons.json").read_text(encoding="utf-8"))
        sheets[style] = Image.new("RGB", (COLUMNS * CELL, -(-len(rows) // COLUMNS) * CELL), "white")
        for i, row in enumerate(rows):
            graphics = [vector_graphic(icons, name, names) for name in slugs(row["en"])]
            if found := [graphic for graphic in graphics if graphic]:
                svg, side = found[0]
                place = (i % COLUMNS * CELL, i // COLUMNS * CELL)
                sheets[style].paste(cell(svg, CANVAS * enlarged * side), place)
                row["styles"].append(style)
    withhold(rows)
    return sheets, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def path_of(folder: Path, package: str) -> Path:
    return folder / "node_modules" / "@iconify-json" / package


def differences(folder: Path) -> list[str]:
    """What of this machine is not what the course's files were made with, in sentences."""
    found = {}
    for package, version in PYTHON_PACKAGES.items():
        try:
            found[package, version] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package, version] = None
    for package, version, _ in PACKAGES.values():
        about = path_of(folder, package) / "package.json"
        is_there = about.is_file()
        found[f"@iconify-json/{package}", version] = json.loads(about.read_text())["version"] if is_there else None
    return [
        f"{package} is missing" if version is None else f"{package} is version {version}; the files are from {wanted}"
        for (package, wanted), version in found.items()
        if version != wanted
    ]


def main(folder: Path) -> None:
    wrong = differences(folder)
    if any("missing" in why for why in wrong):
        raise SystemExit("\n".join([*wrong, "How to get it stands at the top of this script."]))
    print("\n".join(wrong))
    sheets, lines = build(folder)
    target = Path(__file__).parent
    (target / "emoji").mkdir(exist_ok=True)
    for style, sheet in sheets.items():
        sheet.save(target / "emoji" / f"{style}.webp", lossless=True, quality=100)
    (target / "emoji.jsonl").write_text(lines, encoding="utf-8", newline="\n")
    for name in ("emoji.jsonl", *(f"emoji/{style}.webp" for style in sheets)):
        content = (target / name).read_bytes()
        print(f'"{name}": "{hashlib.sha256(content).hexdigest()}",  # {len(content):,} bytes')
    print("The package compares: ddpm_core/data/emoji.py, CHECKSUMS.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: python {sys.argv[0]} FOLDER, with FOLDER/node_modules/@iconify-json")
    main(Path(sys.argv[1]))
