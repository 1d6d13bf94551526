/* pt_pickle.c: a pickle read as data: the opcodes that torch.save writes (protocols 2 to 5), on a stack of value numbers.
 *
 * Nothing is called and no class is looked up: REDUCE of torch._utils._rebuild_tensor_v2 only notes which tuple of numbers it was given.
 * Class names are those of a list (pt_class.c); another one, an opcode of another kind, or a nesting that no real file has ends it.
 * Value number 0 is kept for "none". */
#include "checkpoint/pt.h"

#include <stdio.h>
#include <string.h>

int64_t pickle_offset(const pickle *k, size_t at) { return k->base < 0 ? -1 : k->base + (int64_t)at; }

static int refuse(const pickle *k, size_t at, jepa_err *err, const char *why) {
    return err_set_at(err, JEPA_E_MODEL, k->path, pickle_offset(k, at), "%s: byte %zu of %s: %s", k->path, at, k->what, why);
}

static int no_room(const pickle *k, jepa_err *err) {
    return err_set_at(err, JEPA_E_MODEL, k->path, pickle_offset(k, k->at),
                      "%s: byte %zu of %s: it needs more memory than a file of this size may (%zu bytes)", k->path, k->at, k->what,
                      k->mem->limit);
}

/* ---- values ---- */

static value *new_value(pickle *k, int kind, size_t at, uint32_t *number) {
    if (pt_grow(k->mem, &k->v, &k->v_cap, k->n + 1, sizeof *k->v)) return NULL;
    value *v = &k->v[k->n];
    *v = (value){.kind = (uint8_t)kind, .at = (uint32_t)at};
    *number = (uint32_t)k->n++;
    return v;
}

static int push(pickle *k, uint32_t number, jepa_err *err) {
    if (k->depth >= PT_MAX_STACK) return refuse(k, k->at, err, "more than 262144 values wait on its stack");
    if (pt_grow(k->mem, &k->stack, &k->stack_cap, k->depth + 1, sizeof *k->stack)) return no_room(k, err);
    k->stack[k->depth++] = number;
    return 0;
}

static value *push_new(pickle *k, int kind, size_t at, jepa_err *err) { /* NULL: err is set */
    uint32_t number;
    value *v = new_value(k, kind, at, &number);
    if (!v) {
        no_room(k, err);
        return NULL;
    }
    return push(k, number, err) ? NULL : v;
}

static int push_number(pickle *k, int kind, int64_t number, size_t at, jepa_err *err) {
    value *v = push_new(k, kind, at, err);
    if (v) v->number = number;
    return v ? 0 : JEPA_E_MODEL;
}

/* how many values stand above the last mark */
static size_t above(const pickle *k) { return k->depth - (k->marks ? k->mark[k->marks - 1] : 0); }

static int need(const pickle *k, size_t n, size_t at, jepa_err *err) {
    return above(k) >= n ? 0 : refuse(k, at, err, "it takes values that are not there");
}

/* A tuple of the n values on top. */
static int tuple(pickle *k, size_t n, size_t at, jepa_err *err) {
    uint32_t number;
    if (pt_grow(k->mem, &k->item, &k->item_cap, k->items + n, sizeof *k->item)) return no_room(k, err);
    if (n) memcpy(k->item + k->items, k->stack + k->depth - n, n * sizeof *k->item);
    value *v = new_value(k, V_TUPLE, at, &number);
    if (!v) return no_room(k, err);
    v->items.first = (uint32_t)k->items, v->items.n = (uint32_t)n;
    k->items += n;
    k->depth -= n;
    return push(k, number, err);
}

static int add_pair(pickle *k, uint32_t to, uint32_t key, uint32_t what, jepa_err *err) {
    if (!k->pairs) k->pairs = 1; /* number 0: none */
    if (pt_grow(k->mem, &k->pair, &k->pair_cap, k->pairs + 1, sizeof *k->pair)) return no_room(k, err);
    uint32_t i = (uint32_t)k->pairs++;
    value *v = &k->v[to];
    k->pair[i] = (pair){key, what, 0};
    if (v->pairs.tail)
        k->pair[v->pairs.tail].next = i;
    else
        v->pairs.head = i;
    v->pairs.tail = i;
    return 0;
}

/* SETITEM(S), APPEND(S), ADDITEMS: the n values on top go into the one below them. */
static int put_into(pickle *k, size_t n, int kind, size_t at, jepa_err *err) {
    if (above(k) <= n) return refuse(k, at, err, "it takes values that are not there");
    uint32_t to = k->stack[k->depth - n - 1];
    const uint32_t *from = k->stack + k->depth - n;
    int is = k->v[to].kind;
    if (is != kind && is != V_OBJECT)
        return refuse(k, at, err,
                      kind == V_DICT ? "items are put into something that is no dict" : "items are put into something that is no list");
    if (kind == V_DICT && n % 2) return refuse(k, at, err, "a key has no value");
    k->depth -= n;
    if (is == V_OBJECT || (kind == V_LIST && !k->keep_lists)) return 0;
    for (size_t i = 0; i < n; i += kind == V_DICT ? 2 : 1) {
        int rc = kind == V_DICT ? add_pair(k, to, from[i], from[i + 1], err) : add_pair(k, to, 0, from[i], err);
        if (rc) return rc;
    }
    return 0;
}

static int memo_put(pickle *k, uint32_t number, size_t at, jepa_err *err) {
    if (!above(k)) return refuse(k, at, err, "it takes values that are not there");
    if (number > k->memos + 1024) return refuse(k, at, err, "a memo number that does not follow on the others");
    if (pt_grow(k->mem, &k->memo, &k->memo_cap, (size_t)number + 1, sizeof *k->memo)) return no_room(k, err);
    if (number >= k->memos) k->memos = (size_t)number + 1;
    k->memo[number] = k->stack[k->depth - 1];
    return 0;
}

static int memo_get(pickle *k, uint32_t number, size_t at, jepa_err *err) {
    if (number >= k->memos || !k->memo[number]) return refuse(k, at, err, "it takes a memo entry that was never made");
    return push(k, k->memo[number], err);
}

/* ---- classes and what is made by them ---- */

static int class_named(pickle *k, const unsigned char *module, size_t m, const unsigned char *name, size_t n, size_t at, jepa_err *err) {
    char why[400];
    value found = {0};
    if (m > PT_MAX_NAME || n > PT_MAX_NAME) return refuse(k, at, err, "a class name of more than 512 bytes");
    if (pt_class(module, m, name, n, &found)) {
        int script = m >= 9 && !memcmp(module, "__torch__", 9);
        snprintf(why, sizeof why,
                 script ? "%.*s.%.*s: a TorchScript program, not a checkpoint; save its state_dict() instead"
                        : "%.*s.%.*s is not among the classes that a checkpoint may name; nothing was run",
                 (int)(m > 120 ? 120 : m), (const char *)module, (int)(n > 120 ? 120 : n), (const char *)name);
        return refuse(k, at, err, why);
    }
    value *v = push_new(k, V_CLASS, at, err);
    if (!v) return JEPA_E_MODEL;
    v->role = found.role, v->type = found.type, v->class = found.class;
    return 0;
}

static int global(pickle *k, size_t at, jepa_err *err) {
    const unsigned char *p = k->p + k->at, *end = k->p + k->size, *one = memchr(p, '\n', (size_t)(end - p));
    const unsigned char *two = one ? memchr(one + 1, '\n', (size_t)(end - one - 1)) : NULL;
    if (!two) return refuse(k, at, err, "a class name without an end");
    k->at = (size_t)(two + 1 - k->p);
    return class_named(k, p, (size_t)(one - p), one + 1, (size_t)(two - one - 1), at, err);
}

static int stack_global(pickle *k, size_t at, jepa_err *err) {
    int rc = need(k, 2, at, err);
    if (rc) return rc;
    value m = k->v[k->stack[k->depth - 2]], n = k->v[k->stack[k->depth - 1]];
    if (m.kind != V_TEXT || n.kind != V_TEXT) return refuse(k, at, err, "a class whose name is no text");
    k->depth -= 2;
    return class_named(k, k->p + m.text.at, m.text.size, k->p + n.text.at, n.text.size, at, err);
}

/* callable(args): for the few that matter a value of their own, for the others an object that nothing looks into. */
static int reduce(pickle *k, size_t at, jepa_err *err) {
    int rc = need(k, 2, at, err);
    if (rc) return rc;
    uint32_t class = k->stack[k->depth - 2], args = k->stack[k->depth - 1];
    value c = k->v[class], a = k->v[args];
    if (c.kind != V_CLASS) return refuse(k, at, err, "something that is no class of the list is called; nothing was run");
    if (a.kind != V_TUPLE) return refuse(k, at, err, "arguments that are no tuple");
    k->depth -= 2;
    const uint32_t *arg = k->item + a.items.first;
    if (c.role == C_FROM_TYPE && a.items.n == 4 && k->v[arg[0]].kind == V_CLASS && k->v[arg[2]].kind == V_TUPLE) {
        c = k->v[arg[0]]; /* (rebuild, type, its arguments, state): a tensor with attributes */
        args = arg[2];
        a = k->v[args];
        arg = k->item + a.items.first;
    }
    if ((c.role == C_PARAMETER || c.role == C_SAME) && a.items.n >= 1) return push(k, arg[0], err);
    int kind = c.role == C_DICT && !a.items.n                                      ? V_DICT
               : c.role == C_TENSOR1 || c.role == C_TENSOR2 || c.role == C_TENSOR3 ? V_TENSOR
               : c.role == C_NUMBER                                                ? V_NUMBER
                                                                                   : V_OBJECT;
    value *v = push_new(k, kind, at, err);
    if (!v) return JEPA_E_MODEL;
    v->role = c.role, v->class = c.class;
    if (kind == V_TENSOR) v->args = args;
    return 0;
}

static int new_object(pickle *k, size_t operands, size_t at, jepa_err *err) {
    int rc = need(k, operands, at, err);
    if (rc) return rc;
    value c = k->v[k->stack[k->depth - operands]];
    if (c.kind != V_CLASS) return refuse(k, at, err, "an object of something that is no class of the list; nothing was run");
    k->depth -= operands;
    value *v = push_new(k, c.role == C_DICT ? V_DICT : V_OBJECT, at, err);
    if (v) v->class = c.class;
    return v ? 0 : JEPA_E_MODEL;
}

static int persistent(pickle *k, size_t at, jepa_err *err) {
    int rc = need(k, 1, at, err);
    if (rc) return rc;
    uint32_t args = k->stack[k->depth - 1];
    if (k->v[args].kind != V_TUPLE) return refuse(k, at, err, "a persistent id that is no tuple");
    k->depth--;
    value *v = push_new(k, V_STORAGE, at, err);
    if (v) v->args = args;
    return v ? 0 : JEPA_E_MODEL;
}

/* ---- the opcodes ---- */

static uint64_t little(const unsigned char *p, int n) {
    uint64_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

/* A length in n bytes, and so many bytes after it. */
static int text(pickle *k, int n, int kind, size_t at, jepa_err *err) {
    if (k->size - k->at < (size_t)n) return refuse(k, at, err, "it ends in the middle of a value");
    uint64_t size = little(k->p + k->at, n);
    k->at += (size_t)n;
    if (size > k->size - k->at) return refuse(k, at, err, "a text is said to be longer than what is there");
    value *v = push_new(k, kind, at, err);
    if (!v) return JEPA_E_MODEL;
    v->text.at = (uint32_t)k->at, v->text.size = (uint32_t)size;
    k->at += (size_t)size;
    return 0;
}

static int big_number(pickle *k, int n, size_t at, jepa_err *err) {
    if (k->size - k->at < (size_t)n) return refuse(k, at, err, "it ends in the middle of a value");
    uint64_t size = little(k->p + k->at, n);
    k->at += (size_t)n;
    if (size > k->size - k->at) return refuse(k, at, err, "a number is said to be longer than what is there");
    const unsigned char *p = k->p + k->at;
    k->at += (size_t)size;
    if (size > 8) { /* the old form's magic number is one; else random states and the like, which nothing reads */
        value *v = push_new(k, V_BYTES, at, err);
        if (v) v->text.at = (uint32_t)(p - k->p), v->text.size = (uint32_t)size;
        return v ? 0 : JEPA_E_MODEL;
    }
    uint64_t v = little(p, (int)size);
    if (size && size < 8 && p[size - 1] & 0x80) v |= ~(uint64_t)0 << (8 * size);
    return push_number(k, V_INT, (int64_t)v, at, err);
}

static int number(pickle *k, int n, int kind, size_t at, jepa_err *err) {
    if (k->size - k->at < (size_t)n) return refuse(k, at, err, "it ends in the middle of a value");
    uint64_t v = little(k->p + k->at, n);
    k->at += (size_t)n;
    return push_number(k, kind, kind == V_FLOAT ? 0 : n == 4 ? (int64_t)(int32_t)(uint32_t)v : (int64_t)v, at, err);
}

static int argument(pickle *k, int n, uint32_t *out, size_t at, jepa_err *err) {
    if (k->size - k->at < (size_t)n) return refuse(k, at, err, "it ends in the middle of a value");
    *out = (uint32_t)little(k->p + k->at, n);
    k->at += (size_t)n;
    return 0;
}

/* the values above the last mark, which goes */
static int to_mark(pickle *k, size_t *n, size_t at, jepa_err *err) {
    if (!k->marks) return refuse(k, at, err, "a mark is missing");
    *n = above(k);
    k->marks--;
    return 0;
}

static int unknown(const pickle *k, int op, size_t at, jepa_err *err) {
    static const struct {
        char op;
        const char *name;
    } NAMED[] = {{'i', "INST"},
                 {'o', "OBJ"},
                 {'P', "PERSID"},
                 {'\x82', "EXT1"},
                 {'\x83', "EXT2"},
                 {'\x84', "EXT4"},
                 {'\x97', "NEXT_BUFFER"},
                 {'\x98', "READONLY_BUFFER"},
                 {'I', "INT"},
                 {'L', "LONG"},
                 {'S', "STRING"},
                 {'V', "UNICODE"},
                 {'F', "FLOAT"},
                 {'g', "GET"},
                 {'p', "PUT"},
                 {'d', "DICT"},
                 {'l', "LIST"}};
    char why[120];
    const char *name = NULL;
    for (size_t i = 0; i < sizeof NAMED / sizeof *NAMED; i++)
        if (NAMED[i].op == (char)op) name = NAMED[i].name;
    snprintf(why, sizeof why, name ? "opcode 0x%02x (%s) is not one that torch.save writes" : "0x%02x is no opcode that torch.save writes",
             op, name);
    return refuse(k, at, err, why);
}

static int step(pickle *k, int op, size_t at, jepa_err *err) {
    uint32_t a = 0;
    size_t n = 0;
    int rc;
    value *v;
    switch (op) {
    case 0x80: /* PROTO */
        if ((rc = argument(k, 1, &a, at, err))) return rc;
        return a <= 5 ? 0 : refuse(k, at, err, "a pickle protocol above 5");
    case 0x95: /* FRAME */
        if (k->size - k->at < 8) return refuse(k, at, err, "it ends in the middle of a value");
        k->at += 8;
        return 0;
    case '(':
        if (k->marks == PT_MAX_MARKS) return refuse(k, at, err, "values nested more than 1000 deep");
        k->mark[k->marks++] = (uint32_t)k->depth;
        return 0;
    case '0': /* POP, also of a mark */
        if (k->marks && !above(k))
            k->marks--;
        else if ((rc = need(k, 1, at, err)))
            return rc;
        else
            k->depth--;
        return 0;
    case '1': /* POP_MARK */
        rc = to_mark(k, &n, at, err);
        k->depth -= rc ? 0 : n;
        return rc;
    case '2':
        rc = need(k, 1, at, err);
        return rc ? rc : push(k, k->stack[k->depth - 1], err);
    case 'N':
        return push_number(k, V_NONE, 0, at, err);
    case 0x88:
        return push_number(k, V_BOOL, 1, at, err);
    case 0x89:
        return push_number(k, V_BOOL, 0, at, err);
    case 'K':
        return number(k, 1, V_INT, at, err);
    case 'M':
        return number(k, 2, V_INT, at, err);
    case 'J':
        return number(k, 4, V_INT, at, err);
    case 'G':
        return number(k, 8, V_FLOAT, at, err);
    case 0x8a:
        return big_number(k, 1, at, err);
    case 0x8b:
        return big_number(k, 4, at, err);
    case 'X':
        return text(k, 4, V_TEXT, at, err);
    case 0x8c:
        return text(k, 1, V_TEXT, at, err);
    case 0x8d:
        return text(k, 8, V_TEXT, at, err);
    case 'T':
        return text(k, 4, V_TEXT, at, err); /* Python 2's strings */
    case 'U':
        return text(k, 1, V_TEXT, at, err);
    case 'B':
        return text(k, 4, V_BYTES, at, err);
    case 'C':
        return text(k, 1, V_BYTES, at, err);
    case 0x8e:
        return text(k, 8, V_BYTES, at, err);
    case 0x96:
        return text(k, 8, V_BYTES, at, err); /* BYTEARRAY8 */
    case ')':
        return tuple(k, 0, at, err);
    case 0x85:
    case 0x86:
    case 0x87:
        n = (size_t)op - 0x84;
        rc = need(k, n, at, err);
        return rc ? rc : tuple(k, n, at, err);
    case 't':
        rc = to_mark(k, &n, at, err);
        return rc ? rc : tuple(k, n, at, err);
    case '}':
        return push_new(k, V_DICT, at, err) ? 0 : JEPA_E_MODEL;
    case ']':
        return push_new(k, V_LIST, at, err) ? 0 : JEPA_E_MODEL;
    case 0x8f:
        return push_new(k, V_OBJECT, at, err) ? 0 : JEPA_E_MODEL; /* EMPTY_SET */
    case 0x91:                                                    /* FROZENSET */
        if ((rc = to_mark(k, &n, at, err))) return rc;
        k->depth -= n;
        return push_new(k, V_OBJECT, at, err) ? 0 : JEPA_E_MODEL;
    case 's':
        rc = need(k, 3, at, err);
        return rc ? rc : put_into(k, 2, V_DICT, at, err);
    case 'a':
        rc = need(k, 2, at, err);
        return rc ? rc : put_into(k, 1, V_LIST, at, err);
    case 'u':
        rc = to_mark(k, &n, at, err);
        return rc ? rc : put_into(k, n, V_DICT, at, err);
    case 'e':
        rc = to_mark(k, &n, at, err);
        return rc ? rc : put_into(k, n, V_LIST, at, err);
    case 0x90:
        rc = to_mark(k, &n, at, err);
        return rc ? rc : put_into(k, n, V_OBJECT, at, err);
    case 'q':
        rc = argument(k, 1, &a, at, err);
        return rc ? rc : memo_put(k, a, at, err);
    case 'r':
        rc = argument(k, 4, &a, at, err);
        return rc ? rc : memo_put(k, a, at, err);
    case 0x94:
        return memo_put(k, (uint32_t)k->memos, at, err);
    case 'h':
        rc = argument(k, 1, &a, at, err);
        return rc ? rc : memo_get(k, a, at, err);
    case 'j':
        rc = argument(k, 4, &a, at, err);
        return rc ? rc : memo_get(k, a, at, err);
    case 'c':
        return global(k, at, err);
    case 0x93:
        return stack_global(k, at, err);
    case 'R':
        return reduce(k, at, err);
    case 0x81:
        return new_object(k, 2, at, err);
    case 0x92:
        return new_object(k, 3, at, err);
    case 'Q':
        return persistent(k, at, err);
    case 'b': /* BUILD: attributes of an object, or the _metadata of a state dict: not wanted */
        if ((rc = need(k, 2, at, err))) return rc;
        v = &k->v[k->stack[k->depth - 2]];
        if (v->kind != V_DICT && v->kind != V_OBJECT && v->kind != V_TENSOR && v->kind != V_NUMBER)
            return refuse(k, at, err, "attributes are given to something that can have none");
        k->depth--;
        return 0;
    default:
        return unknown(k, op, at, err);
    }
}

int pickle_read(pickle *k, jepa_err *err) {
    uint32_t none;
    k->at = k->n = k->depth = k->memos = k->items = k->pairs = 0;
    k->marks = 0;
    if (!new_value(k, V_NONE, 0, &none) || pt_grow(k->mem, &k->item, &k->item_cap, 1, sizeof *k->item))
        return no_room(k, err); /* tuples without items point there */
    int cut = k->size > PT_MAX_PICKLE;
    if (cut) k->size = PT_MAX_PICKLE;
    while (k->at < k->size) {
        size_t at = k->at;
        int op = k->p[k->at++];
        if (op == '.') {
            if (k->depth != 1 || k->marks) return refuse(k, at, err, "it stops with other than one value");
            k->root = k->stack[0];
            return 0;
        }
        int rc = step(k, op, at, err);
        if (rc) return rc;
    }
    return refuse(k, k->size, err, cut ? "a pickle of more than 32 MB" : "it ends without a stop (is the file cut short?)");
}

void pickle_close(pickle *k) {
    if (!k->mem) return;
    pt_give_back(k->mem, &k->v, &k->v_cap, sizeof *k->v);
    pt_give_back(k->mem, &k->item, &k->item_cap, sizeof *k->item);
    pt_give_back(k->mem, &k->pair, &k->pair_cap, sizeof *k->pair);
    pt_give_back(k->mem, &k->memo, &k->memo_cap, sizeof *k->memo);
    pt_give_back(k->mem, &k->stack, &k->stack_cap, sizeof *k->stack);
}

/* ---- looking into what was read ---- */

int pickle_text_is(const pickle *k, uint32_t v, const char *s) {
    const value *t = &k->v[v];
    size_t n = strlen(s);
    return t->kind == V_TEXT && t->text.size == n && !memcmp(k->p + t->text.at, s, n);
}

uint32_t pickle_get(const pickle *k, const value *dict, const char *key) {
    uint32_t found = 0;
    if (dict->kind == V_DICT)
        for (uint32_t i = dict->pairs.head; i; i = k->pair[i].next)
            if (pickle_text_is(k, k->pair[i].key, key)) found = k->pair[i].value;
    return found;
}
