"""What Pillow makes of pictures, for the tests of data/image.

pillow.py hashes      prints the committed table of test_augment.c (needs Pillow, numpy and OpenCV)
pillow.py files DIR   writes encoded pictures, Pillow's RGB bytes of each, and DIR/list.txt:
                      FILE RGB WIDTH HEIGHT ORIENT FILTER X0 Y0 X1 Y1, with FILTER - for no resize
"""
import io
import os
import random
import struct
import sys
import warnings
import zlib

import PIL
from PIL import Image, ImageEnhance, ImageOps

WIDTH, HEIGHT = 61, 47


def picture(width=WIDTH, height=HEIGHT):
    """The picture of make_picture in test_augment.c."""
    pixels = bytes((x * 7 + y * 13 + x * y % 31 * 5 + c * 50 + (x // 8 + y // 8) % 2 * 60) % 251
                   for y in range(height) for x in range(width) for c in range(3))
    return Image.frombytes("RGB", (width, height), pixels)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def hashes():
    import cv2
    import numpy
    source = picture()
    array = numpy.array(source)

    def warp(matrix):
        return cv2.warpAffine(array, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR,
                              borderValue=(128, 128, 128)).tobytes()
    rows = [("AUTO_CONTRAST", 0, ImageOps.autocontrast(source).tobytes()),
            ("EQUALIZE", 0, ImageOps.equalize(source).tobytes()),
            ("BRIGHTNESS", 1.36, ImageEnhance.Brightness(source).enhance(1.36).tobytes()),
            ("BRIGHTNESS", 0.4, ImageEnhance.Brightness(source).enhance(0.4).tobytes()),
            ("SHARPNESS", 1.36, ImageEnhance.Sharpness(source).enhance(1.36).tobytes()),
            ("SHARPNESS", 0.28, ImageEnhance.Sharpness(source).enhance(0.28).tobytes())]
    for sign in (1, -1):
        shear, shift, turn = sign * 0.21, sign * 7.0, sign * 21.0
        rows += [("SHEAR_X", shear, warp(numpy.float32([[1, shear, 0], [0, 1, 0]]))),
                 ("SHEAR_Y", shear, warp(numpy.float32([[1, 0, 0], [shear, 1, 0]]))),
                 ("TRANSLATE_X", shift, warp(numpy.float32([[1, 0, -shift], [0, 1, 0]]))),
                 ("TRANSLATE_Y", shift, warp(numpy.float32([[1, 0, 0], [0, 1, -shift]]))),
                 ("ROTATE", turn, warp(cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), turn, 1)))]
    for name, argument, data in rows:
        print("{IMAGE_OP_%s, (float)%g, 0x%016xu}," % (name, argument, fnv(data)))
    for name in ("BILINEAR", "BICUBIC"):
        for width, height, box in ((24, 24, None), (100, 30, None), (20, 33, (3.5, 1.25, 40, 46.75))):
            out = source.resize((width, height), getattr(Image, name), box=box)
            x0, y0, x1, y1 = box or (0, 0, 0, 0)
            print("{{.filter = IMAGE_%s, .width = %d, .height = %d, .box = {%g, %g, %g, %g}}, 0x%016xu},"
                  % (name, width, height, x0, y0, x1, y1, fnv(out.tobytes())))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(colour, samples, width=19, height=11):
    """A 16-bit PNG, which Pillow reads but does not write."""
    rng = random.Random(colour)
    rows = b"".join(b"\0" + bytes(rng.randrange(256) for _ in range(width * samples * 2))
                    for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) +
            chunk(b"IEND", b""))


def encoded():
    """(bytes, applies EXIF orientation) of pictures of every kind."""
    def save(image, format, **options):
        out = io.BytesIO()
        image.save(out, format, **options)
        return out.getvalue()
    rgb = picture()
    alpha = rgb.convert("RGBA")
    alpha.putalpha(rgb.getchannel(1))
    odd = picture(37, 91)
    palette = rgb.convert("P", palette=Image.ADAPTIVE, colors=37)
    for image in (rgb, rgb.convert("L"), rgb.convert("1"), rgb.convert("LA"), alpha, palette):
        yield save(image, "PNG"), False
    yield save(palette, "PNG", transparency=3), False
    yield save(rgb.convert("P", palette=Image.ADAPTIVE, colors=3), "PNG", bits=2), False
    yield save(rgb.convert("L"), "PNG", transparency=9), False
    for colour, samples in ((2, 3), (4, 2), (6, 4)):
        yield deep_png(colour, samples), False
    for image in (rgb, odd, rgb.convert("L"), rgb.convert("CMYK"), odd.convert("CMYK")):
        for progressive in (False, True):
            yield save(image, "JPEG", quality=80, progressive=progressive), False
    for subsampling in (0, 1, 2):
        yield save(odd, "JPEG", quality=60, subsampling=subsampling), False
    for image in (rgb, alpha, odd):
        yield save(image, "WEBP", lossless=True, exact=True), False
        yield save(image, "WEBP", quality=70), False
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for format in ("JPEG", "PNG", "WEBP"):
            yield save(odd, format, exif=exif.tobytes()), True


def resize(source, size, filter, box):
    """Pillow up to 12 filters rows first; 13 begins with what is cheaper, so it is asked in two steps."""
    if int(PIL.__version__.split(".")[0]) < 13:
        return source.resize(size, filter, box=box)
    rows = source.resize((size[0], source.height), filter, box=(box[0], 0, box[2], source.height))
    return rows.resize(size, filter, box=(0, box[1], size[0], box[3]))


def files(folder):
    lines = []

    def expect(data, image, orient, filter="-", box=(0, 0, 0, 0)):
        n = len(lines)
        with open(os.path.join(folder, "%d.img" % n), "wb") as out:
            out.write(data)
        with open(os.path.join(folder, "%d.rgb" % n), "wb") as out:
            out.write(image.tobytes())
        lines.append("%d.img %d.rgb %d %d %d %s %.9g %.9g %.9g %.9g" %
                     ((n, n) + image.size + (orient, filter) + tuple(box)))

    for data, orient in encoded():
        image = Image.open(io.BytesIO(data))
        if orient:
            image = ImageOps.exif_transpose(image)
        expect(data, image.convert("RGB"), int(orient))
    rng = random.Random(7)
    out = io.BytesIO()
    source = picture(97, 83)
    source.save(out, "PNG")
    for _ in range(120):
        size = (rng.randrange(1, 160), rng.randrange(1, 160))
        x, y = rng.uniform(0, 90), rng.uniform(0, 80)
        box = (x, y, rng.uniform(x + 0.5, 97), rng.uniform(y + 0.5, 83))
        # Pillow computed with boxes in float, later in double: no difference for these.
        box = tuple(int(edge * 64) / 64 for edge in box)
        if rng.random() < 0.3:
            box = (0, 0, 97, 83)
        name = rng.choice(("BILINEAR", "BICUBIC"))
        expect(out.getvalue(), resize(source, size, getattr(Image, name), box), 0, name, box)
    with open(os.path.join(folder, "list.txt"), "w") as out:
        out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "hashes":
        hashes()
    else:
        files(sys.argv[2])
