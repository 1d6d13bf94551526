/* verbs_schedule.c: learning rate, weight decay, EMA momentum and the context term's weight, step by step. */
#include "parity.h"
#include "train/train.h"

#include <string.h>

/* Rows of numbers at an output, each handed to fn with its count checked. */
static int rows(check *c, int columns, int (*fn)(check *, void *, const json *const *, jepa_err *), void *ctx, jepa_err *err) {
    const json *v = NULL;
    int rc = ref_json(c, output_ref(c, "values"), &v, err);
    if (rc < 0) return rc;
    c->t.roles++;
    if (!json_is_array(v)) return err_set(err, JEPA_E_MODEL, "values are no list of rows");
    for (const json *r = json_first(v); r; r = json_next(r)) {
        const json *cell[4];
        int n = 0;
        if (json_is_array(r) && json_size(r) == columns)
            for (const json *e = json_first(r); e; e = json_next(e)) cell[n++] = e;
        if (n != columns || !json_is_number(cell[0])) return err_set(err, JEPA_E_MODEL, "a row of values has not %d columns", columns);
        if ((rc = fn(c, ctx, cell, err)) < 0) return rc;
    }
    return 0;
}

static int schedule_row(check *c, void *ctx, const json *const *cell, jepa_err *err) {
    double v[3];
    char what[64];
    static const char *const names[] = {"lr", "weight_decay", "ema_momentum"};
    int64_t step = (int64_t)json_number(cell[0], 0);
    sched_at(ctx, step, &v[0], &v[1], &v[2]);
    for (int i = 0; i < 3; i++) {
        snprintf(what, sizeof what, "%s of step %lld", names[i], (long long)step);
        int rc = compare_number(c, what, v[i], cell[i + 1], err);
        if (rc < 0) return rc;
    }
    return 0;
}

int verb_schedule(check *c, jepa_err *err) {
    sched_cfg s = {0};
    const char *kind = param_string(c, "schedule", "");
    if (!strcmp(kind, "warmup_cosine"))
        s.kind = SCHED_WARMUP_COSINE;
    else if (!strcmp(kind, "linear_decay"))
        s.kind = SCHED_LINEAR_DECAY;
    else if (!strcmp(kind, "wsd"))
        s.kind = SCHED_WSD;
    else
        return err_set(err, JEPA_E_MODEL, "schedule \"%s\" is not known", kind);
    const struct {
        const char *key;
        double *to;
        int optional;
    } numbers[] = {{"iterations_per_epoch", &s.iterations_per_epoch, 0},
                   {"epochs", &s.epochs, 0},
                   {"warmup_epochs", &s.warmup_epochs, 0},
                   {"anneal_epochs", &s.anneal_epochs, 1},
                   {"start_lr", &s.start_lr, 0},
                   {"lr", &s.lr, 0},
                   {"final_lr", &s.final_lr, 0},
                   {"weight_decay", &s.weight_decay, 0},
                   {"final_weight_decay", &s.final_weight_decay, 0},
                   {"ipe_scale", &s.ipe_scale, 0},
                   {"ema_start", &s.ema_start, 1},
                   {"ema_end", &s.ema_end, 1}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const json *v = json_get(c->params, numbers[i].key);
        if (numbers[i].optional && (!v || json_is_null(v))) continue;
        int rc = param_numbers(c, numbers[i].key, 1, numbers[i].to, err);
        if (rc < 0) return rc;
    }
    return rows(c, 4, schedule_row, &s, err);
}

typedef struct lambda_cfg {
    double lambda;
    int64_t start, end;
} lambda_cfg;

static int lambda_row(check *c, void *ctx, const json *const *cell, jepa_err *err) {
    const lambda_cfg *l = ctx;
    char what[64];
    int64_t i = (int64_t)json_number(cell[0], 0);
    snprintf(what, sizeof what, "lambda of iteration %lld", (long long)i);
    return compare_number(c, what, sched_lambda(i, l->lambda, l->start, l->end), cell[1], err);
}

int verb_lambda_schedule(check *c, jepa_err *err) {
    lambda_cfg l;
    int rc;
    if ((rc = param_numbers(c, "lambda", 1, &l.lambda, err)) < 0 || (rc = param_int(c, "start", 0, 1LL << 50, &l.start, err)) < 0 ||
        (rc = param_int(c, "end", 0, 1LL << 50, &l.end, err)) < 0)
        return rc;
    return rows(c, 2, lambda_row, &l, err);
}
