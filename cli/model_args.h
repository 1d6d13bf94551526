/* model_args.h: the options that embed, frames, pca and probe share: which model, which frames, which crop. */
#ifndef JEPA_CLI_MODEL_ARGS_H
#define JEPA_CLI_MODEL_ARGS_H
#include "cli/cli.h"
#include "infer/infer.h"

typedef struct model_args {
    const char *model, *pool, *layers, *which, *positions, *arch, *family, *config;
    int heads, predictor_heads;
    int allow_partial, as_stored, reject_short, by_time;
    int predictor; /* set by the command: the predictor is wanted too */
    jepa_embed_options o;
    int layer[16];
} model_args;

enum { N_SAMPLING = 9, N_MODEL = 10 };
void model_args_defaults(model_args *a);
void sampling_options(opt *table, model_args *a);  /* N_SAMPLING entries: --frames … --as-stored */
void model_options(opt *table, model_args *a);     /* N_MODEL entries: -m, --layers, --which, --positions, --allow-partial, and what a file may not say: --arch … */
int model_args_open(cli *c, model_args *a, int untrained, jepa **m, clip_plan *p, jepa_err *err);
void model_args_say(cli *c, const jepa *m, const clip_plan *p); /* sampling and transform, as they are used */
#endif
