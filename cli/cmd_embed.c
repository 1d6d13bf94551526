/* cmd_embed.c: jepa embed -m MODEL INPUT… */
#include "cli/model_args.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "  jepa embed -m run/latest -o out.h5 clips.txt\n"
                            "  jepa embed -m HF_FOLDER --clips 4 -o out.npy clip.mp4 photos/\n\n"
                            "INPUT: a video, an image, a folder (searched, sorted), a list (.txt, .csv), - for a list on standard input, a "
                            "tar (WebDataset: a video or\n"
                            "image per key, label from .cls or .json), an HDF5 file (an item per uint8 [T,H,W,3] data set), in lists and "
                            "folders too; or a .safetensors\n"
                            "with pixel_values [B,T,3,H,W] float32, used as it is. Rows come in the order of the inputs. Files that cannot "
                            "be read are named and listed in\n"
                            "the output; the others are done (exit code 1). A stopped job goes on with the same command.\n\n"
                            "--every S: clip k begins at k*S seconds; the last is the last whole one: a clip of which frames lie behind "
                            "the video's end is left out\n"
                            "(a video shorter than one clip gives one, its last frame repeated).\n"
                            "mpirun -n 16 / srun -n 16 jepa embed …: each rank does its share (--shard RANK/SIZE) and writes "
                            "OUT.RANK-of-SIZE; `jepa merge` joins them.\n";

typedef struct failure {
    char *path, *reason;
    int line;
} failure;
typedef struct job_view {
    cli *c;
    failure *f;
    int n, cap;
    double started;
    int64_t first;
} job_view;

static void progress(void *ctx, int64_t done, int64_t total, int64_t clips) {
    job_view *v = ctx;
    char text[160];
    double spent = clock_seconds() - v->started;
    if (!v->first) v->first = done; /* a job that went on: what was done before says nothing about the rate */
    double left = done > v->first && spent > 0 ? spent / (double)(done - v->first) * (double)(total - done) : 0;
    snprintf(text, sizeof text, "%lld/%lld items, %lld clips, %.1f clips/s, %d:%02d left", (long long)done, (long long)total,
             (long long)clips, spent > 0 ? (double)clips / spent : 0, (int)(left / 60), (int)left % 60);
    cli_progress(v->c, text);
}
static void say(void *ctx, const char *text) { cli_line(((job_view *)ctx)->c, "%s", text); }
static void failed(void *ctx, const char *path, int line, const char *reason) {
    job_view *v = ctx;
    if (line)
        cli_warn(v->c, "%s (line %d): %s", path, line, reason);
    else
        cli_warn(v->c, "%s: %s", path, reason);
    if (v->n == v->cap) {
        int cap = v->cap ? 2 * v->cap : 16;
        failure *more = realloc(v->f, (size_t)cap * sizeof *more);
        if (!more) return;
        v->f = more, v->cap = cap;
    }
    failure *f = &v->f[v->n];
    *f = (failure){strdup(path), strdup(reason), line};
    if (f->path && f->reason) v->n++;
}

/* The tensor form: clips that somebody prepared already. Written at once, without OUT.part. */
static int embed_tensor(jepa *m, clip_plan *p, const char *in, const char *out, dtype store, embed_job *j, jepa_err *err) {
    st_file *f = NULL;
    jepa_run *run = NULL;
    part *pt = NULL;
    float *row = NULL, *x = NULL;
    char aside[1100], sha[65], text[256] = "", what[512];
    json_writer w = {0};
    static const char *const pools[] = {"mean", "none", "time", "space"};
    int rc = st_open(&f, in, err);
    if (rc < 0) return rc;
    const st_tensor *t = st_find(f, "pixel_values");
    if (!t) t = st_find(f, "pixel_values_videos");
    if (!t || t->t.rank != 5 || t->t.dim[2] != 3 || t->t.type != T_F32) {
        rc = err_set(err, JEPA_E_INPUT, "%s: no tensor pixel_values [B,T,3,H,W] float32 in it", in);
        goto done;
    }
    int64_t n = t->t.dim[0], frames = t->t.dim[1], h = t->t.dim[3], w_ = t->t.dim[4];
    if (n < 1 || frames < 1 || frames > 4096 || h < 1 || w_ < 1 || h > 8192 || w_ > 8192) {
        rc = err_set(err, JEPA_E_INPUT, "%s: pixel_values [%lld,%lld,3,%lld,%lld] is no clip", in, (long long)n, (long long)frames,
                     (long long)h, (long long)w_);
        goto done;
    }
    int64_t given = frames, tubelet = m->ec.tubelet_size, patch = m->ec.patch_size;
    if (frames < tubelet) frames = tubelet; /* as published: a clip shorter than a tubelet is filled up with its last frame */
    if (frames % tubelet || h % patch || w_ % patch) {
        rc = err_set(err, JEPA_E_INPUT,
                     "%s: clips of %lld frames of %lldx%lld; the model needs frames in multiples of %lld and sizes in multiples of %lld",
                     in, (long long)given, (long long)w_, (long long)h, (long long)tubelet, (long long)patch);
        goto done;
    }
    p->frames = (int)frames;
    plan_pool(p, &m->ec, (int)frames, (int)h, (int)w_);
    size_t frame = (size_t)(3 * h * w_), clip = (size_t)frames * frame, from = (size_t)given * frame;
    if (!(row = mem_alloc((size_t)(p->per_row * p->dim), sizeof *row)) || !(x = mem_alloc(clip, sizeof *x))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a row");
        goto done;
    }
    if (snprintf(aside, sizeof aside, "%s.part", out) >= (int)sizeof aside) {
        rc = err_set(err, JEPA_E_USE, "output name too long");
        goto done;
    }
    if ((rc = ck_sha256(m->c, sha, err)) < 0) goto done;
    snprintf(what, sizeof what, "%s", in);
    jw_open(&w, NULL, '{');
    jw_string(&w, "model_sha256", sha);
    jw_string(&w, "encoder", m->which_target ? "target" : "context");
    jw_string(&w, "pool", pools[p->pool]);
    for (int i = 0, k = 0; i < p->layers; i++) k += snprintf(text + k, sizeof text - (size_t)k, "%s%d", i ? "," : "", p->layer[i]);
    jw_string(&w, "layers", text);
    jw_string(&w, "positions", m->o.published_positions ? "published" : "grid");
    jw_string(&w, "out_type", store == T_F16 ? "f16" : "f32");
    snprintf(text, sizeof text, "pixel_values [%lld,%lld,3,%lld,%lld]", (long long)n, (long long)given, (long long)h, (long long)w_);
    jw_string(&w, "inputs", text);
    jw_string(&w, "file", in);
    jw_close(&w, '}');
    if (w.failed) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the settings");
        goto done;
    }
    if ((rc = emb_check(out, w.text, err)) != 0) {
        j->complete_already = rc == 1;
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    remove(aside); /* a prepared tensor is done from the start: it has no items to go on from */
    if ((rc = part_open(&pt, aside, w.text, p->per_row * p->dim, err)) < 0 || (rc = jepa_session(m, &run, err)) < 0) goto done;
    for (int64_t i = 0; i < n; i++) {
        memcpy(x, (const char *)t->t.data + (size_t)i * from * sizeof *x, from * sizeof *x);
        for (size_t at = from; at < clip; at += frame) memcpy(x + at, x + from - frame, frame * sizeof *x);
        if ((rc = run_encode(run, p, x, T_F32, 1, frames, h, w_, row, err)) < 0) goto done;
        part_row r = {.item = i, .clip = 0, .label = -1, .path = what, .data = row};
        if ((rc = part_add(pt, &r, err)) < 0 || (rc = part_item_done(pt, i, err)) < 0) goto done;
        if (cli_stopped(NULL)) {
            rc = err_set(err, JEPA_E_CANCELLED, "stopped after %lld of %lld clips", (long long)i + 1, (long long)n);
            goto done;
        }
    }
    j->rows = n;
    const emb_meta om = {.model = ck_path(m->c),
                         .sha256 = sha,
                         .precision = dtype_name(m->type),
                         .pool = pools[p->pool],
                         .version = jepa_version(),
                         .settings = w.text,
                         .transform = "none: pixel_values",
                         .device = m->device,
                         .frames = p->frames,
                         .grid = {p->grid[0], p->grid[1], p->grid[2]},
                         .per_row = p->per_row,
                         .dim = p->dim,
                         .store = store,
                         .layered = p->pool != JEPA_POOL_MEAN};
    const emb_source rows = part_source(pt);
    rc = emb_write(out, &om, &rows, err);
done:
    jepa_session_close(&run);
    if (pt) part_remove(&pt);
    mem_free(row), mem_free(x);
    jw_free(&w);
    st_close(&f);
    return rc;
}

/* Where the program was started by mpirun or srun, without linking either. 1: there are several ranks. */
static int rank_of(int *rank, int *ranks, const char **who) {
    static const struct {
        const char *rank, *ranks;
    } env[] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, {"PMI_RANK", "PMI_SIZE"}, {"SLURM_PROCID", "SLURM_NTASKS"}};
    for (size_t i = 0; i < sizeof env / sizeof *env; i++) {
        const char *r = getenv(env[i].rank), *n = getenv(env[i].ranks);
        char *r_end, *n_end;
        /* A batch script's own shell has Slurm's variables too, as task 0 of all: only in a step that srun began are there other ranks. */
        if (!strncmp(env[i].rank, "SLURM", 5)) {
            if (getenv("SLURM_JOB_ID") && !getenv("SLURM_STEP_ID")) continue;
            if (getenv("SLURM_STEP_NUM_TASKS")) n = getenv("SLURM_STEP_NUM_TASKS");
        }
        if (!r || !n || !*r || !*n) continue;
        const long rv = strtol(r, &r_end, 10), nv = strtol(n, &n_end, 10);
        if (*r_end || *n_end || rv < 0 || nv < 2 || rv >= nv || nv > 1 << 20) continue;
        *rank = (int)rv, *ranks = (int)nv, *who = env[i].rank;
        return 1;
    }
    return 0;
}
/* "all.h5" → "all.0003-of-0016.h5" */
static int name_of_rank(char *to, size_t size, const char *out, int rank, int ranks) {
    const char *slash = strrchr(out, '/'), *dot = strrchr(slash ? slash : out, '.');
    const int stem = dot ? (int)(dot - out) : (int)strlen(out);
    return snprintf(to, size, "%.*s.%04d-of-%04d%s", stem, out, rank, ranks, dot ? dot : "") < (int)size;
}

int cmd_embed(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    enum { N_OWN = 8 };
    model_args a;
    text_list rest = {0};
    const char *out = "embeddings.h5", *shard = NULL, *type = "f32", *who = NULL, *memory = NULL;
    char of_rank[1024];
    int batch = 1, decoders = 2, gzip = 0;
    model_args_defaults(&a);
    opt table[N_SAMPLING + N_MODEL + N_OWN] = {
        {"--out", "OUT", ".h5 (default embeddings.h5), .npy or .safetensors", O_TEXT, &out, 0, 0, "-o"},
        {"--pool", "P", "mean (default), none, time, space", O_TEXT, &a.pool, 0, 0, NULL},
        {"--batch", "N", "clips computed together; default 1", O_INT, &batch, 1, 4096, NULL},
        {"--shard", "I/N", "only the inputs I, I+N, I+2N, …; default: as mpirun or srun say", O_TEXT, &shard, 0, 0, NULL},
        {"--out-type", "T", "f32 (default) or f16", O_TEXT, &type, 0, 0, NULL},
        {"--gzip", "N", ".h5: rows compressed, 1 (fast) to 9; default: not", O_INT, &gzip, 1, 9, NULL},
        {"--memory", "SIZE", "20G, 512M or auto (what is free): fewer clips, sessions and decoders at a time so that it is enough", O_TEXT, &memory, 0, 0, NULL},
        {"--decoders", "N", "decoding threads; default 2", O_INT, &decoders, 1, 64, NULL},
    };
    sampling_options(table + N_OWN, &a);
    model_options(table + N_OWN + N_SAMPLING, &a);
    jepa *m = NULL;
    clip_plan p;
    items in = {0};
    job_view v = {.c = c};
    embed_job j = {.out = NULL};
    int rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if (!rest.n) {
        rc = err_set(&err, JEPA_E_USE, "nothing to embed: jepa embed -m MODEL INPUT…");
        goto done;
    }
    int end = 0;
    j.shards = 1;
    if ((shard &&
         (sscanf(shard, "%d/%d%n", &j.shard, &j.shards, &end) != 2 || shard[end] || j.shards < 1 || j.shard < 0 || j.shard >= j.shards)) ||
        (strcmp(type, "f32") && strcmp(type, "f16"))) {
        rc = err_set(&err, JEPA_E_USE, "--shard I/N with 0 <= I < N; --out-type f32 or f16");
        goto done;
    }
    if (!shard && rank_of(&j.shard, &j.shards, &who)) {
        if (!name_of_rank(of_rank, sizeof of_rank, out, j.shard, j.shards)) {
            rc = err_set(&err, JEPA_E_USE, "output name too long");
            goto done;
        }
        out = of_rank;
        cli_line(c, "rank %d of %d (%s): %s", j.shard, j.shards, who, out);
    }
    if (memory && mem_size(memory, &j.memory)) {
        rc = err_set(&err, JEPA_E_USE, "--memory %s: an amount as 20G or 512M, or auto, is needed", memory);
        goto done;
    }
    if (gzip && emb_ending(out) != EMB_H5) {
        rc = err_set(&err, JEPA_E_USE, "--gzip is for .h5 outputs");
        goto done;
    }
    if ((rc = model_args_open(c, &a, 0, &m, &p, &err)) < 0) goto done;
    j.store = strcmp(type, "f16") ? T_F32 : T_F16;
    size_t len = strlen(rest.at[0]);
    if (len > 12 && !strcmp(rest.at[0] + len - 12, ".safetensors")) {
        if (rest.n > 1)
            rc = err_set(&err, JEPA_E_USE, "a .safetensors of clips is embedded by itself");
        else
            rc = embed_tensor(m, &p, rest.at[0], out, j.store, &j, &err);
        if (rc < 0) goto done;
    } else {
        for (int i = 0; i < rest.n; i++)
            if ((rc = items_add(&in, rest.at[i], &err)) < 0) goto done;
        if (!in.n) {
            rc = err_set(&err, JEPA_E_IO, "%s: no clips in it", rest.at[0]);
            goto done;
        }
        model_args_say(c, m, &p);
        if (in.ignored) cli_line(c, "%lld members of tars or data sets are neither video nor image: ignored", (long long)in.ignored);
        v.started = clock_seconds();
        j.m = m, j.plan = &p, j.inputs = &in, j.out = out, j.batch = batch, j.threads = decoders, j.command = c->line, j.gzip = gzip;
        j.stop = cli_stopped, j.progress = progress, j.failed = failed, j.line = say, j.ctx = &v;
        if ((rc = embed_run(&j, &err)) < 0) goto done;
    }
    cli_progress_end(c);
    if (j.failures) {
        cli_line(c, "%lld input(s) failed:", (long long)j.failures);
        for (int i = 0; i < v.n; i++) cli_line(c, "  %s: %s", v.f[i].path, v.f[i].reason);
        if (v.n < j.failures) cli_line(c, "  … %lld from before this run went on", (long long)(j.failures - v.n));
    }
    if (j.complete_already) cli_line(c, "%s: complete already: nothing to do", out);
    if (c->json) {
        json_writer w = {0};
        jw_open(&w, NULL, '{');
        jw_string(&w, "out", out), jw_bool(&w, "complete_already", j.complete_already), jw_int(&w, "rows", j.rows),
            jw_int(&w, "per_row", p.per_row), jw_int(&w, "dim", p.dim);
        jw_open(&w, "failed", '[');
        for (int i = 0; i < v.n; i++) {
            jw_open(&w, NULL, '{');
            jw_string(&w, "path", v.f[i].path), jw_int(&w, "line", v.f[i].line), jw_string(&w, "reason", v.f[i].reason);
            jw_close(&w, '}');
        }
        jw_close(&w, ']');
        jw_close(&w, '}');
        if (!w.failed) printf("%s\n", w.text);
        jw_free(&w);
    } else if (j.complete_already) {
        printf("%s\n", out);
    } else if (p.per_row > 1) {
        printf("%s: %lld x %lld x %lld\n", out, (long long)j.rows, (long long)p.per_row, (long long)p.dim);
    } else {
        printf("%s: %lld x %lld\n", out, (long long)j.rows, (long long)p.dim);
    }
    rc = j.failures ? 1 : 0;
done:
    for (int i = 0; i < v.n; i++) free(v.f[i].path), free(v.f[i].reason);
    free(v.f);
    items_free(&in);
    jepa_close(&m);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
