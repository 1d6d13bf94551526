/* clip.c: the encoder on a clip that is given as numbers: clip MODEL PRECISION IN.safetensors OUT.safetensors [THREADS]
 * "input" float32 [n,T,3,H,W] of IN → "output" float32 [n,N,D] of OUT. See peer_bf16.py. */
#include "checkpoint/checkpoint.h"
#include "infer/infer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc < 5) return fprintf(stderr, "usage: clip MODEL PRECISION IN.safetensors OUT.safetensors [THREADS]\n"), 2;
    jepa_err err = {0};
    jepa *m = NULL;
    jepa_run *run = NULL;
    st_file *f = NULL;
    float *x = NULL, *y = NULL;
    clip_plan p;
    jepa_embed_options o;
    jepa_options open;
    jepa_embed_options_defaults(&o);
    jepa_options_defaults(&open);
    o.pool = JEPA_POOL_NONE;
    open.precision = argv[2], open.threads = argc > 5 ? atoi(argv[5]) : 0;
    int rc = st_open(&f, argv[3], &err);
    if (rc < 0) goto done;
    const st_tensor *in = st_find(f, "input");
    if (!in || in->t.type != T_F32 || in->t.rank != 5 || in->t.dim[2] != 3 || in->t.dim[3] != in->t.dim[4]) {
        rc = err_set(&err, JEPA_E_INPUT, "%s: no float32 input [n,T,3,S,S]", argv[3]);
        goto done;
    }
    const int64_t n = in->t.dim[0], frames = in->t.dim[1], side = in->t.dim[3];
    o.frames = (int)frames, o.crop = (int)side;
    if ((rc = jepa_open(&m, argv[1], &open, &err)) < 0 || (rc = plan_make(m, &o, &p, &err)) < 0) goto done;
    if ((rc = jepa_session(m, &run, &err)) < 0) goto done;
    const size_t count = (size_t)(n * frames * 3 * side * side);
    x = mem_alloc(count, sizeof *x), y = mem_alloc((size_t)(n * p.per_row * p.dim), sizeof *y);
    if (!x || !y) {
        rc = err_set(&err, JEPA_E_MEMORY, "no memory for %lld clips", (long long)n);
        goto done;
    }
    memcpy(x, in->t.data, count * sizeof *x); /* a mapped file's data may be unaligned */
    if ((rc = run_encode(run, &p, x, T_F32, n, frames, side, side, y, &err)) < 0) goto done;
    const st_out out = {"output", {.data = y, .type = T_F32, .rank = 3, .dim = {n, p.per_row, p.dim}}, T_NONE};
    rc = st_write(argv[4], &out, 1, NULL, &err);
done:
    if (rc < 0) fprintf(stderr, "%s\n", err.text);
    mem_free(x), mem_free(y);
    jepa_session_close(&run);
    jepa_close(&m);
    st_close(&f);
    return rc < 0;
}
