/* cmd_merge.c: jepa merge OUT IN…: the outputs of a job's shards become one. */
#include "cli/cli.h"
#include "infer/infer.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "  jepa merge all.h5 part0.h5 part1.h5 part2.h5\n"
    "  srun -n 16 jepa embed -m vitl.pt -o k400.h5 k400.txt; jepa merge k400.h5 k400.*-of-0016.h5\n\n"
    "OUT, then the outputs (.h5, .safetensors) of `jepa embed --shard I/N` with the same settings. Rows come in the order of the whole "
    "job's\n"
    "inputs, as one job would have written them; lists of failed inputs are joined. OUT is .h5, .npy or .safetensors; one input alone is\n"
    "written in OUT's form. A shard that is missing, or there twice, and settings that differ are refused and named.\n";

static void say(void *ctx, const char *text) { cli_line(ctx, "%s", text); }

int cmd_merge(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    text_list rest = {0};
    merge_job m = {.line = say, .ctx = c};
    const opt table[] = {
        {"--allow-missing", NULL, "merge the shards that are there", O_FLAG, &m.allow_missing, 0, 0, NULL},
        {"--gzip", "N", ".h5: compress rows, 1 (fast) to 9", O_INT, &m.gzip, 1, 9, NULL},
    };
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (rest.n < 2) {
        rc = err_set(&err, JEPA_E_USE, "jepa merge OUT IN…: an output and the files to merge");
        goto done;
    }
    m.out = rest.at[0], m.in = rest.at + 1, m.n = rest.n - 1;
    if ((rc = merge_run(&m, &err)) < 0) goto done;
    if (m.failures) cli_line(c, "%lld input(s) had failed", (long long)m.failures);
    if (c->json) {
        json_writer w = {0};
        jw_open(&w, NULL, '{');
        jw_string(&w, "out", m.out), jw_int(&w, "rows", m.rows), jw_int(&w, "per_row", m.per_row), jw_int(&w, "dim", m.dim),
            jw_int(&w, "failed", m.failures), jw_int(&w, "missing", m.missing);
        jw_close(&w, '}');
        if (!w.failed) printf("%s\n", w.text);
        jw_free(&w);
    } else if (m.per_row > 1) {
        printf("%s: %lld x %lld x %lld\n", m.out, (long long)m.rows, (long long)m.per_row, (long long)m.dim);
    } else {
        printf("%s: %lld x %lld\n", m.out, (long long)m.rows, (long long)m.dim);
    }
    rc = m.failures ? 1 : 0;
done:
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
