#!/usr/bin/env python3
"""make.py: the pictures of this folder and the image seeds of ../fuzz, made once with Pillow (pip install pillow numpy).

    python3 make.py      # writes beside itself and into ../fuzz/image
"""
import os, struct, zlib
import numpy as np
from PIL import Image, PngImagePlugin

here = os.path.dirname(os.path.abspath(__file__))
fuzz = os.path.join(here, '..', 'fuzz', 'image')
os.makedirs(fuzz, exist_ok=True)
def at(name): return os.path.join(here, name)

C = (200, 60, 20)
flat = Image.new('RGB', (48, 32), C)
flat.save(at('rgb.png'))
flat.save(at('x.bmp'))
flat.convert('P', palette=Image.ADAPTIVE).save(at('pal.png'))
Image.new('RGBA', (48, 32), C + (0,)).save(at('rgba.png'))
Image.new('LA', (48, 32), (90, 0)).save(at('la.png'))
Image.new('L', (48, 32), 90).save(at('gray.png'))
Image.new('L', (48, 32), 90).save(at('gray.jpg'), quality=95)
Image.fromarray(np.full((32, 48), 0xC000, np.uint16)).save(at('gray16.png'))
flat.save(at('q95.jpg'), quality=95)
flat.save(at('prog.jpg'), quality=95, progressive=True)
flat.convert('CMYK').save(at('cmyk.jpg'), quality=95)
exif = Image.Exif()
exif[0x0112] = 6
im = Image.new('RGB', (48, 32), (0, 0, 255))
im.paste((255, 0, 0), (0, 0, 48, 8))
im.save(at('exif6.jpg'), quality=95, exif=exif)
im.save(at('exif6.png'), exif=exif)
flat.save(at('x.webp'), lossless=True)
flat.save(at('x.gif'))
flat.save(at('x.tif'))
flat.save(at('x.avif')) if Image.core and hasattr(Image, 'registered_extensions') and '.avif' in Image.registered_extensions() else None
Image.new('RGB', (1, 1), C).save(at('one.png'))
Image.new('RGB', (3000, 2), C).save(at('thin.png'))
flat.save(at('y.png'), format='JPEG', quality=95)                 # a JPEG by content
open(at('cut.jpg'), 'wb').write(open(at('q95.jpg'), 'rb').read()[:400])

# A picture that is not flat, in the ways of packing that differ: red = 4x, green = 7y, blue = 2(x+y). Lossless ones must give it exactly.
y, x = np.mgrid[0:32, 0:48]
ramp = np.stack([4 * x, 7 * y, 2 * (x + y)], -1).astype(np.uint8)
R = Image.fromarray(ramp)
R.save(at('ramp.png'))
R.save(at('ramp.bmp'))
R.save(at('ramp-420.jpg'), quality=95, subsampling='4:2:0')
R.save(at('ramp-422-prog.jpg'), quality=95, subsampling='4:2:2', progressive=True)
R.save(at('ramp-restart.jpg'), quality=95, subsampling='4:4:4', restart_marker_blocks=4)

def chunk(t, d): return struct.pack('>I', len(d)) + t + d + struct.pack('>I', zlib.crc32(t + d))
def png(head, rows, extra=b''):
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + extra + chunk(b'IDAT', zlib.compress(rows, 9)) + chunk(b'IEND', b'')
rows = b''
for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
    for row in ramp[y0::dy, x0::dx]: rows += b'\0' + row.tobytes()
open(at('ramp-interlaced.png'), 'wb').write(png(struct.pack('>IIBBBBB', 48, 32, 8, 2, 0, 0, 1), rows))
# one bit a pixel, the right half set; 0 = C, 1 = (1, 2, 3); a palette of two entries, transparency that must not matter
bits = b''.join(b'\0' + bytes([0] * 3 + [255] * 3) for _ in range(32))
open(at('bits.png'), 'wb').write(png(struct.pack('>IIBBBBB', 48, 32, 1, 3, 0, 0, 0), bits, chunk(b'PLTE', bytes(C) + bytes((1, 2, 3))) + chunk(b'tRNS', b'\0')))
P = Image.new('P', (47, 32), 0)                                    # an odd width: padded rows
P.putpalette(list(C) + [1, 2, 3])
P.paste(1, (24, 0, 47, 32))
P.save(at('bits8.bmp'))
head = struct.pack('<2sIHHI', b'BM', 0, 0, 0, 54) + struct.pack('<IiiHHIIiiII', 40, 48, -32, 1, 32, 0, 0, 0, 0, 0, 0)
bgra = np.concatenate([ramp[..., ::-1], np.zeros((32, 48, 1), np.uint8)], -1)
open(at('ramp-top-down32.bmp'), 'wb').write(head + bgra.tobytes())

# seeds
rng = np.random.default_rng(7)
noise = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)).resize((40, 24))
small = Image.fromarray(rng.integers(0, 256, (10, 13, 3), dtype=np.uint8))
for name, pic, kw in (('base.jpg', small, {'quality': 80, 'subsampling': '4:2:0'}), ('prog.jpg', small, {'quality': 80, 'progressive': True}),
                      ('restart.jpg', noise, {'quality': 40, 'restart_marker_blocks': 2}), ('gray.jpg', small.convert('L'), {'quality': 90}),
                      ('cmyk.jpg', small.convert('CMYK'), {'quality': 50}), ('rgb.png', small, {}), ('pal.png', small.convert('P', palette=Image.ADAPTIVE), {}),
                      ('rgba.png', small.convert('RGBA'), {}), ('x.bmp', small, {}), ('pal.bmp', small.convert('P', palette=Image.ADAPTIVE, colors=5), {}),
                      ('bit.bmp', small.convert('1'), {})):
    pic.save(os.path.join(fuzz, name), **kw)
for name in ('exif6.jpg', 'exif6.png', 'ramp-interlaced.png', 'bits.png', 'gray16.png', 'ramp-top-down32.bmp', 'x.gif'):
    data = open(at(name), 'rb').read()
    open(os.path.join(fuzz, name), 'wb').write(data)
