/* image_jpeg.c: a JPEG checked from the first marker to the last bit before stb_image decodes it.
 *
 * Segments must lie inside the file, tables must be whole, there must be exactly one frame header (baseline, extended or progressive
 * Huffman, 8 bit), each scan must use tables that exist, and the entropy-coded data of each scan must hold all its blocks, with
 * coefficients in range. ITU-T T.81; the checks mirror how stb_image walks the data, which does not ask these questions itself. */
#include "video/image.h"

#include <string.h>

enum { MOST_SCANS = 100 }; /* a progressive file needs about ten; thousands of empty ones would keep a decoder busy for hours */

/* A Huffman code. fast: by the next nine bits, length<<8 | value */
typedef struct table { int there; int32_t most[18], delta[17]; uint8_t value[256]; uint16_t fast[512]; } table;

typedef struct part { /* one colour component */
    int id, h, v, quant, dc_table, ac_table, seen, dc;
    int wide, high;       /* blocks that carry pixels */
    int padded;           /* blocks of a row with whole MCUs */
    int8_t low[64];       /* progressive: bit position that the coefficient is known to; -1: not yet */
    uint64_t *nonzero;    /* progressive: which coefficients of a block are not zero */
} part;

typedef struct jpeg {
    const uint8_t *b;
    size_t n, at;
    const char *file;
    jepa_err *err;
    table dc[4], ac[4];
    int quant[4];
    part c[4];
    int parts, progressive, framed, adobe, interval, scans, mcu_x, mcu_y;
    uint32_t bits; /* left-aligned */
    int have;      /* bits in it */
    int run;       /* blocks left of an end-of-band run */
    image_facts *out;
} jpeg;

static int bad(const jpeg *j, const char *what) {
    return err_set_at(j->err, JEPA_E_INPUT, j->file, (int64_t)j->at, "%s: damaged JPEG at byte %zu: %s", j->file, j->at, what);
}

static int refuse(const jpeg *j, const char *what) {
    return err_set_at(j->err, JEPA_E_INPUT, j->file, (int64_t)j->at, "%s: JPEG of a kind that is not read: %s", j->file, what);
}

/* ---- bits ---- */

static void fill(jpeg *j) {
    while (j->have <= 24 && j->at < j->n) {
        uint32_t v = j->b[j->at];
        if (v == 0xff) {
            if (j->at + 1 >= j->n || j->b[j->at + 1]) return; /* a marker, or the end */
            j->at++;
        }
        j->at++;
        j->bits |= v << (24 - j->have);
        j->have += 8;
    }
}

/* n bits (0 … 16), or -1 when the data ends */
static int take(jpeg *j, int n) {
    if (j->have < n) fill(j);
    if (j->have < n) return -1;
    int v = n ? (int)(j->bits >> (32 - n)) : 0;
    j->bits = n ? j->bits << n : j->bits;
    j->have -= n;
    return v;
}

static int symbol(jpeg *j, const table *t) {
    if (j->have < 16) fill(j);
    int f = t->fast[j->bits >> 23], n = f >> 8;
    if (n) {
        if (n > j->have) return -1;
        j->bits <<= n;
        j->have -= n;
        return f & 255;
    }
    int32_t code = (int32_t)(j->bits >> 16);
    for (n = 10; n <= 16 && code >= t->most[n]; n++) {}
    if (n > 16 || n > j->have) return -1;
    int at = (code >> (16 - n)) + t->delta[n];
    if (at < 0 || at > 255) return -1;
    j->bits <<= n;
    j->have -= n;
    return t->value[at];
}

/* Value of a coefficient's `n` bits (T.81 F.12); *ok 0 when they are missing. */
static int32_t extend(jpeg *j, int n, int *ok) {
    int v = take(j, n);
    *ok = v >= 0;
    return n && v < 1 << (n - 1) ? v - (1 << n) + 1 : v;
}

/* ---- tables ---- */

static int make_table(table *t, const uint8_t *count, const uint8_t *value, int total) {
    int32_t code = 0, k = 0;
    memset(t, 0, sizeof *t);
    memcpy(t->value, value, (size_t)total);
    for (int n = 1; n <= 16; n++) {
        t->delta[n] = k - code;
        for (int i = 0; i < count[n - 1]; i++, k++, code++)
            if (n <= 9)
                for (int f = 0; f < 1 << (9 - n) && ((code << (9 - n)) + f) < 512; f++)
                    t->fast[(code << (9 - n)) + f] = (uint16_t)(n << 8 | value[k]);
        if (code > 1 << n) return -1; /* more codes than there are */
        t->most[n] = code << (16 - n);
        code <<= 1;
    }
    t->there = 1;
    return 0;
}

static int huffman_segment(jpeg *j, const uint8_t *s, size_t n) {
    while (n) {
        if (n < 17) return bad(j, "Huffman table cut short");
        int kind = s[0] >> 4, which = s[0] & 15, total = 0;
        for (int i = 1; i <= 16; i++) total += s[i];
        if (kind > 1 || which > 3) return bad(j, "Huffman table number");
        if (total > 256 || (size_t)total > n - 17) return bad(j, "Huffman table of too many codes");
        if (make_table(kind ? &j->ac[which] : &j->dc[which], s + 1, s + 17, total)) return bad(j, "Huffman code lengths");
        s += 17 + total;
        n -= 17 + (size_t)total;
    }
    return 0;
}

static int quant_segment(jpeg *j, const uint8_t *s, size_t n) {
    while (n) {
        size_t one = s[0] >> 4 ? 129 : 65;
        if (s[0] >> 4 > 1 || (s[0] & 15) > 3) return bad(j, "quantisation table number");
        if (n < one) return bad(j, "quantisation table cut short");
        j->quant[s[0] & 15] = 1;
        s += one;
        n -= one;
    }
    return 0;
}

/* ---- frame ---- */

static int frame_segment(jpeg *j, const uint8_t *s, size_t n, int marker) {
    if (j->framed) return bad(j, "second frame header");
    if (n < 6) return bad(j, "frame header cut short");
    int parts = s[5], hmax = 1, vmax = 1;
    int64_t h = s[1] << 8 | s[2], w = s[3] << 8 | s[4];
    if (s[0] != 8) return refuse(j, "not 8 bits a sample");
    if (!h) return refuse(j, "height comes later (DNL)");
    if (!w) return bad(j, "width 0");
    if (parts != 1 && parts != 3 && parts != 4) return refuse(j, "number of components");
    if (n != 6 + 3 * (size_t)parts) return bad(j, "frame header length");
    if (w * h > IMAGE_MOST_PIXELS)
        return err_set_at(j->err, JEPA_E_INPUT, j->file, -1, "%s: %lldx%lld pixels, more than %d million", j->file, (long long)w,
                          (long long)h, IMAGE_MOST_PIXELS / 1000000);
    j->out->width = (int)w, j->out->height = (int)h;
    j->parts = parts;
    j->progressive = marker == 0xc2;
    for (int i = 0; i < parts; i++) {
        part *c = &j->c[i];
        c->id = s[6 + 3 * i], c->h = s[7 + 3 * i] >> 4, c->v = s[7 + 3 * i] & 15, c->quant = s[8 + 3 * i];
        if (c->h < 1 || c->h > 4 || c->v < 1 || c->v > 4 || c->quant > 3) return bad(j, "sampling factors or table number");
        for (int k = 0; k < i; k++)
            if (j->c[k].id == c->id) return bad(j, "two components of one name");
        if (c->h > hmax) hmax = c->h;
        if (c->v > vmax) vmax = c->v;
        memset(c->low, -1, sizeof c->low);
    }
    j->mcu_x = (int)((w + 8 * hmax - 1) / (8 * hmax));
    j->mcu_y = (int)((h + 8 * vmax - 1) / (8 * vmax));
    for (int i = 0; i < parts; i++) {
        part *c = &j->c[i];
        if (hmax % c->h || vmax % c->v) return refuse(j, "sampling factors that do not divide each other");
        c->wide = ((int)((w * c->h + hmax - 1) / hmax) + 7) / 8;
        c->high = ((int)((h * c->v + vmax - 1) / vmax) + 7) / 8;
        c->padded = j->mcu_x * c->h;
        if (j->progressive && !(c->nonzero = mem_alloc((size_t)c->padded * (size_t)(j->mcu_y * c->v), sizeof(uint64_t))))
            return err_set(j->err, JEPA_E_MEMORY, "%s: no memory to check a %lldx%lld JPEG", j->file, (long long)w, (long long)h);
    }
    j->framed = 1;
    return 0;
}

/* ---- blocks; each returns NULL or what is wrong ---- */

static const char *const ends = "compressed data ends early or holds an unknown code";

static const char *block_dc(jpeg *j, part *c, int low) {
    int ok, n = symbol(j, &j->dc[c->dc_table]);
    if (n < 0) return ends;
    if (n > 15) return "coefficient out of range";
    int32_t d = extend(j, n, &ok);
    if (!ok) return ends;
    c->dc += d;
    if (c->dc > 32767 >> low || c->dc < -(32767 >> low)) return "coefficient out of range";
    return NULL;
}

static const char *block_whole(jpeg *j, part *c) {
    const char *why = block_dc(j, c, 0);
    for (int k = 1; !why && k < 64; k++) {
        int rs = symbol(j, &j->ac[c->ac_table]), n = rs & 15;
        if (rs < 0) return ends;
        if (!n && rs != 0xf0) break;
        k += rs >> 4;
        if (n && k > 63) return "coefficient beyond the block";
        if (take(j, n) < 0) return ends;
    }
    return why;
}

static const char *block_ac_first(jpeg *j, part *c, uint64_t *nonzero, int from, int to, int low) {
    if (j->run) {
        j->run--;
        return NULL;
    }
    for (int k = from; k <= to; k++) {
        int rs = symbol(j, &j->ac[c->ac_table]), n = rs & 15, r = rs >> 4;
        if (rs < 0) return ends;
        if (!n && r < 15) {
            int more = take(j, r);
            if (more < 0) return ends;
            j->run = (1 << r) + more - 1;
            break;
        }
        k += r;
        if (!n) continue;
        if (k > to) return "coefficient beyond the band";
        if (n + low > 14) return "coefficient out of range";
        if (take(j, n) < 0) return ends;
        *nonzero |= (uint64_t)1 << k;
    }
    return NULL;
}

static const char *block_ac_again(jpeg *j, part *c, uint64_t *nonzero, int from, int to) {
    int k = from;
    if (!j->run) {
        while (k <= to) {
            int rs = symbol(j, &j->ac[c->ac_table]), n = rs & 15, r = rs >> 4;
            if (rs < 0) return ends;
            if (n > 1) return "coefficient out of range";
            if (!n && r < 15) {
                int more = take(j, r);
                if (more < 0) return ends;
                j->run = (1 << r) + more;
                break;
            }
            if (n && take(j, 1) < 0) return ends;
            for (; k <= to; k++) { /* known ones get their bit; r zeros are passed over */
                if (*nonzero >> k & 1) {
                    if (take(j, 1) < 0) return ends;
                } else if (!r--) {
                    if (n) *nonzero |= (uint64_t)1 << k;
                    k++;
                    break;
                }
            }
        }
    }
    if (!j->run) return NULL;
    for (; k <= to; k++)
        if ((*nonzero >> k & 1) && take(j, 1) < 0) return ends;
    j->run--;
    return NULL;
}

/* ---- scan ---- */

typedef struct scan { int parts, from, to, high, low; part *c[4]; } scan;

static const char *one_block(jpeg *j, const scan *s, part *c, int x, int y) {
    if (!j->progressive) return block_whole(j, c);
    uint64_t *nonzero = c->nonzero + (size_t)y * (size_t)c->padded + (size_t)x;
    if (s->from) return s->high ? block_ac_again(j, c, nonzero, s->from, s->to) : block_ac_first(j, c, nonzero, s->from, s->to, s->low);
    if (!s->high) return block_dc(j, c, s->low);
    return take(j, 1) < 0 ? ends : NULL;
}

static void restart(jpeg *j) {
    j->bits = 0, j->have = 0, j->run = 0;
    for (int i = 0; i < 4; i++) j->c[i].dc = 0;
}

static const char *scan_data(jpeg *j, const scan *s) {
    int single = s->parts == 1, nx = single ? s->c[0]->wide : j->mcu_x, ny = single ? s->c[0]->high : j->mcu_y, next = 0,
        left = j->interval;
    restart(j);
    for (int y = 0; y < ny; y++)
        for (int x = 0; x < nx; x++) {
            const char *why = NULL;
            if (j->interval && !left--) {
                if (j->have >= 8 || j->at + 1 >= j->n || j->b[j->at] != 0xff) return "restart marker missing";
                while (j->at + 1 < j->n && j->b[j->at + 1] == 0xff) j->at++;
                if (j->at + 1 >= j->n || j->b[j->at + 1] != 0xd0 + next) return "restart marker missing";
                j->at += 2;
                next = (next + 1) & 7;
                left = j->interval - 1;
                restart(j);
            }
            if (single) why = one_block(j, s, s->c[0], x, y);
            for (int i = 0; !single && i < s->parts; i++)
                for (int v = 0; v < s->c[i]->v; v++)
                    for (int h = 0; !why && h < s->c[i]->h; h++) why = one_block(j, s, s->c[i], x * s->c[i]->h + h, y * s->c[i]->v + v);
            if (why) return why;
        }
    j->have = 0;
    return NULL;
}

static int scan_segment(jpeg *j, const uint8_t *p, size_t n) {
    scan s = {0};
    if (!j->framed) return bad(j, "scan before the frame header");
    if (++j->scans > MOST_SCANS) return bad(j, "more than 100 scans");
    s.parts = n ? p[0] : 0;
    if (s.parts < 1 || s.parts > j->parts || n != 4 + 2 * (size_t)s.parts) return bad(j, "scan header");
    s.from = p[n - 3], s.to = p[n - 2], s.high = p[n - 1] >> 4, s.low = p[n - 1] & 15;
    if (!j->progressive) {
        if (s.from || s.high || s.low) return bad(j, "scan header");
        s.to = 63;
    } else if (s.from > s.to || s.to > 63 || s.low > 13 || (s.high && s.high != s.low + 1) || (!s.from && s.to) ||
               (s.from && s.parts > 1)) {
        return bad(j, "progressive scan header");
    }
    int blocks = 0;
    for (int i = 0; i < s.parts; i++) {
        int k = 0;
        while (k < j->parts && j->c[k].id != p[1 + 2 * i]) k++;
        if (k == j->parts) return bad(j, "scan of an unknown component");
        part *c = s.c[i] = &j->c[k];
        for (int m = 0; m < i; m++)
            if (s.c[m] == c) return bad(j, "scan of one component twice");
        c->dc_table = p[2 + 2 * i] >> 4, c->ac_table = p[2 + 2 * i] & 15;
        if (c->dc_table > 3 || c->ac_table > 3) return bad(j, "Huffman table number");
        int dc = !s.from && !s.high, ac = !j->progressive || s.from;
        if ((dc && !j->dc[c->dc_table].there) || (ac && !j->ac[c->ac_table].there)) return bad(j, "Huffman table missing");
        if (!j->quant[c->quant]) return bad(j, "quantisation table missing");
        blocks += c->h * c->v;
        c->seen = 1;
        if (!j->progressive) continue;
        if (s.from && c->low[0] < 0) return bad(j, "progressive scan before the first of its component");
        for (k = s.from; k <= s.to; k++) {
            if (s.high ? c->low[k] != s.high : c->low[k] >= 0) return bad(j, "progressive scans out of order");
            c->low[k] = (int8_t)s.low;
        }
    }
    if (s.parts > 1 && blocks > 10) return bad(j, "more than ten blocks in a unit");
    const char *why = scan_data(j, &s);
    if (why) return bad(j, why);
    while (j->at < j->n && !j->b[j->at]) j->at++; /* some cameras pad with zeros */
    return 0;
}

/* ---- markers ---- */

int exif_orientation(const uint8_t *t, size_t n) {
    if (n < 8 || !((t[0] == 'I' && t[1] == 'I') || (t[0] == 'M' && t[1] == 'M'))) return 1;
    int little = t[0] == 'I';
#define U16(p) (little ? (p)[0] | (p)[1] << 8 : (p)[0] << 8 | (p)[1])
    uint32_t at = little ? (uint32_t)(t[4] | t[5] << 8 | t[6] << 16) | (uint32_t)t[7] << 24
                         : (uint32_t)t[4] << 24 | (uint32_t)(t[5] << 16 | t[6] << 8 | t[7]);
    if (U16(t + 2) != 42 || at > n - 2) return 1;
    int count = U16(t + at);
    for (size_t e = (size_t)at + 2; count-- > 0 && e + 12 <= n; e += 12)
        if (U16(t + e) == 0x0112 && U16(t + e + 2) == 3) {
            int v = U16(t + e + 8);
            return v >= 1 && v <= 8 ? v : 1;
        }
#undef U16
    return 1;
}

static void app_segment(jpeg *j, int marker, const uint8_t *s, size_t n) {
    if (marker == 0xe1 && n > 14 && !memcmp(s, "Exif\0", 6) && j->out->orientation == 1)
        j->out->orientation = exif_orientation(s + 6, n - 6);
    if (marker == 0xee && n >= 12 && !memcmp(s, "Adobe", 6)) j->adobe = s[11];
}

static int finish(jpeg *j) {
    if (!j->framed) return bad(j, "no frame header");
    for (int i = 0; i < j->parts; i++)
        if (!j->c[i].seen || (j->progressive && j->c[i].low[0] < 0)) return bad(j, "a component has no data");
    if (j->parts == 4 && j->adobe != 0 && j->adobe != 2) return refuse(j, "four components without a known colour space");
    j->out->end = j->at;
    return 0;
}

static int walk(jpeg *j) {
    if (j->n < 4 || j->b[0] != 0xff || j->b[1] != 0xd8) return bad(j, "no start marker");
    j->at = 2;
    for (;;) {
        if (j->at + 2 > j->n) return bad(j, "cut short, no end marker");
        if (j->b[j->at] != 0xff) return bad(j, "a marker was expected");
        while (j->at + 1 < j->n && j->b[j->at + 1] == 0xff) j->at++;
        if (j->at + 2 > j->n) return bad(j, "cut short, no end marker");
        int m = j->b[j->at + 1], rc = 0;
        j->at += 2;
        if (m == 0xd9) return finish(j);
        if (m < 0xc0 || (m >= 0xd0 && m <= 0xd8)) return bad(j, "unexpected marker");
        if (j->at + 2 > j->n) return bad(j, "cut short inside a segment");
        size_t length = (size_t)(j->b[j->at] << 8 | j->b[j->at + 1]);
        if (length < 2 || length > j->n - j->at) return bad(j, "segment length (cut short?)");
        const uint8_t *s = j->b + j->at + 2;
        size_t n = length - 2;
        j->at += length;
        if (m == 0xc4) rc = huffman_segment(j, s, n);
        else if (m == 0xdb) rc = quant_segment(j, s, n);
        else if (m == 0xc0 || m == 0xc1 || m == 0xc2) rc = frame_segment(j, s, n, m);
        else if (m == 0xda) rc = scan_segment(j, s, n);
        else if (m == 0xdd && n != 2) rc = bad(j, "restart interval");
        else if (m == 0xdd) j->interval = s[0] << 8 | s[1];
        else if ((m >= 0xe0 && m <= 0xef) || m == 0xfe) app_segment(j, m, s, n);
        else if (m == 0xc3) rc = refuse(j, "lossless");
        else if (m >= 0xc9 && m <= 0xcf) rc = refuse(j, "arithmetic coding");
        else if (m >= 0xc5 && m <= 0xc7) rc = refuse(j, "hierarchical");
        else rc = bad(j, "unknown marker");
        if (rc) return rc;
    }
}

int jpeg_check(const uint8_t *data, size_t size, image_facts *out, const char *file, jepa_err *err) {
    jpeg *j = mem_alloc(1, sizeof *j);
    if (!j) return err_set(err, JEPA_E_MEMORY, "%s: no memory to check a JPEG", file);
    *out = (image_facts){.orientation = 1};
    j->b = data, j->n = size, j->file = file, j->err = err, j->out = out, j->adobe = -1;
    int rc = walk(j);
    for (int i = 0; i < 4; i++) mem_free(j->c[i].nonzero);
    mem_free(j);
    return rc;
}
