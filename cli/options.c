/* options.c: GNU-style long options from a table: --name VALUE, --name=VALUE, flags, one-letter forms, "--" ends them. */
#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const opt *find(const opt *table, int n, const char *arg, size_t len) {
    for (int i = 0; i < n; i++)
        if ((strlen(table[i].name) == len && !strncmp(table[i].name, arg, len)) || (table[i].letter && strlen(table[i].letter) == len && !strncmp(table[i].letter, arg, len)))
            return &table[i];
    return NULL;
}

int text_list_add(text_list *l, const char *s) {
    const char **more = realloc(l->at, ((size_t)l->n + 1) * sizeof *more);
    if (!more) return JEPA_E_MEMORY;
    l->at = more;
    l->at[l->n++] = s;
    return 0;
}

void text_list_free(text_list *l) {
    free(l->at);
    l->at = NULL;
    l->n = 0;
}

static int take(const opt *o, const char *v, jepa_err *err) {
    char *end;
    double x;
    errno = 0;
    switch (o->kind) {
    case O_FLAG: *(int *)o->to = 1; return 0;
    case O_TEXT: *(const char **)o->to = v; return 0;
    case O_LIST: return text_list_add(o->to, v) ? err_set(err, JEPA_E_MEMORY, "no memory") : 0;
    default: break;
    }
    x = o->kind == O_DOUBLE ? strtod(v, &end) : (double)strtoll(v, &end, 10);
    if (end == v || *end || errno || !isfinite(x)) return err_set(err, JEPA_E_USE, "%s %s: a %s is needed", o->name, v, o->kind == O_DOUBLE ? "number" : "whole number");
    if (x < o->low || x > o->high) return err_set(err, JEPA_E_USE, "%s %s: must lie between %g and %g", o->name, v, o->low, o->high);
    if (o->kind == O_DOUBLE) *(double *)o->to = x;
    else if (o->kind == O_LONG) *(int64_t *)o->to = strtoll(v, NULL, 10);
    else *(int *)o->to = (int)x;
    return 0;
}

static void print(const opt *table, int n) {
    for (int i = 0; i < n; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", table[i].letter ? table[i].letter : "", table[i].letter ? ", " : "", table[i].name, table[i].arg ? " " : "",
                 table[i].arg ? table[i].arg : "");
        printf("  %-24s %s\n", left, table[i].help);
    }
}

int options_read(cli *c, const opt *table, int n, int argc, char **argv, const char *usage, text_list *rest, jepa_err *err) {
    int show_help = 0;
    const opt common[] = {
        {"--device", "D", "auto, cpu or ref (slow, exact sums); default auto", O_TEXT, &c->device, 0, 0, NULL},
        {"--precision", "P", "f32 (default) or bf16: weights and most activations in bf16, sums in float32", O_TEXT, &c->precision, 0, 0, NULL},
        {"--threads", "N", "compute threads; default: the cores this process may use", O_INT, &c->threads, 1, 1024, NULL},
        {"--quiet", NULL, "errors only", O_FLAG, &c->quiet, 0, 0, NULL},
        {"--json", NULL, "results as one JSON object a line", O_FLAG, &c->json, 0, 0, NULL},
        {"--help", NULL, "this", O_FLAG, &show_help, 0, 0, "-h"},
    };
    const int n_common = sizeof common / sizeof *common;
    int rc;
    memset(rest, 0, sizeof *rest);
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i], *eq = strchr(a, '=');
        if (!strcmp(a, "--")) {
            while (++i < argc)
                if (text_list_add(rest, argv[i])) return err_set(err, JEPA_E_MEMORY, "no memory");
            break;
        }
        if (a[0] != '-' || !a[1]) { /* "-" alone is an input: standard input */
            if (text_list_add(rest, a)) return err_set(err, JEPA_E_MEMORY, "no memory");
            continue;
        }
        size_t len = a[1] == '-' && eq ? (size_t)(eq - a) : strlen(a);
        const opt *o = find(table, n, a, len);
        if (!o) o = find(common, n_common, a, len);
        if (!o) return err_set(err, JEPA_E_USE, "%.*s: no such option; jepa %s --help lists them", (int)len, a, c->command);
        const char *v = a[1] == '-' && eq ? eq + 1 : NULL;
        if (o->kind == O_FLAG && v) return err_set(err, JEPA_E_USE, "%s takes no value", o->name);
        if (o->kind != O_FLAG && !v) {
            if (i + 1 >= argc) return err_set(err, JEPA_E_USE, "%s needs a value (%s)", o->name, o->arg);
            v = argv[++i];
        }
        if ((rc = take(o, v, err)) < 0) return rc;
    }
    if (!show_help) return 0;
    printf("%s\noptions:\n", usage);
    print(table, n);
    print(common, n_common);
    return 1;
}
