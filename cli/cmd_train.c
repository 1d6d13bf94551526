/* cmd_train.c: jepa train CONFIG.yaml */
#include "cli/cli.h"
#include "base/json.h"
#include "train/train.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "  jepa train configs/tiny.yaml --set data.datasets=[clips.txt] --out run\n\n"
    "Pretrains a V-JEPA 2 style model on the videos of a list or folder. CONFIG.yaml has the published sections (data, data_aug, loss, mask,\n"
    "meta, model, optimization). The folder gets config.yaml, log.csv, step-*/ checkpoints and latest. The same command goes on where a run\n"
    "stopped, bit for bit. Interrupting finishes the step in hand and saves.\n";

static void line(void *ctx, const char *text, int is_progress) {
    if (is_progress) cli_progress(ctx, text);
    else cli_line(ctx, "%s", text);
}
static void plan(void *ctx, const char *text, int is_progress) { /* of a --dry-run: the result */
    (void)ctx, (void)is_progress;
    printf("%s\n", text);
}

int cmd_train(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    train_cfg cfg;
    train_run_opts o = {.resume = "auto"};
    text_list sets = {0}, rest;
    const char *on_collapse = "warn", *memory = NULL, *name, *precision;
    dev *d = NULL;
    int have_cfg = 0;
    int64_t limit = 0;
    const opt table[] = {
        {"--set", "KEY=VALUE", "changes a value of the configuration: section.key=value; may be repeated", O_LIST, &sets, 0, 0, NULL},
        {"--out", "DIR", "where the run goes; default: folder of the configuration", O_TEXT, &o.out_dir, 0, 0, "-o"},
        {"--resume", "HOW", "auto (default), never, or a checkpoint folder", O_TEXT, &o.resume, 0, 0, NULL},
        {"--init", "MODEL", "start from this model's weights instead of random ones", O_TEXT, &o.init, 0, 0, NULL},
        {"--steps", "N", "stop after N steps; the schedule stays the configuration's", O_LONG, &o.max_steps, 1, 1e12, NULL},
        {"--dry-run", NULL, "print the plan (model, memory, data, steps) and stop", O_FLAG, &o.dry_run, 0, 0, NULL},
        {"--memory", "SIZE", "20G, 512M or auto (what is free): run fewer samples together and compute again so that a step fits", O_TEXT, &memory, 0,
         0, NULL},
        {"--on-collapse", "WHAT", "warn (default) or stop", O_TEXT, &on_collapse, 0, 0, NULL},
    };
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (rest.n != 1) {
        rc = err_set(&err, JEPA_E_USE, "one configuration is needed: jepa train CONFIG.yaml --out DIR");
        goto done;
    }
    if (strcmp(on_collapse, "warn") && strcmp(on_collapse, "stop")) {
        rc = err_set(&err, JEPA_E_USE, "--on-collapse %s: warn or stop", on_collapse);
        goto done;
    }
    o.on_collapse = !strcmp(on_collapse, "stop");
    if ((rc = cli_precision(c, &precision, &err)) < 0) goto done;
    if (c->precision && (rc = text_list_add(&sets, !strcmp(precision, "bf16") ? "meta.dtype=bfloat16" : "meta.dtype=float32")) < 0) goto done;
    if (memory && mem_size(memory, &limit)) {
        rc = err_set(&err, JEPA_E_USE, "--memory %s: an amount as 20G or 512M, or auto, is needed", memory);
        goto done;
    }
    if ((rc = cli_device(c, &name, &err)) < 0) goto done;
    have_cfg = 1;
    if ((rc = train_cfg_read(&cfg, rest.at[0], sets.at, sets.n, &err)) < 0 || (rc = dev_open(&d, name, c->threads, &err)) < 0) goto done;
    if (memory) cfg.memory_limit = limit;
    cli_line(c, "device: %s", dev_describe(d));
    const train_hooks h = {.stop = cli_stopped, .line = o.dry_run && !c->json ? plan : line, .ctx = c};
    rc = train_run(&cfg, d, &o, &h, &err);
    if (rc == 0 && c->json && !o.dry_run) {
        json_writer w = {0};
        jw_open(&w, NULL, '{');
        jw_string(&w, "out", o.out_dir ? o.out_dir : cfg.folder), jw_bool(&w, "complete", 1);
        jw_close(&w, '}');
        if (!w.failed) printf("%s\n", w.text);
        jw_free(&w);
    }
done:
    dev_close(&d);
    if (have_cfg) train_cfg_free(&cfg);
    text_list_free(&sets);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
