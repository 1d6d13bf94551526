/* bench_print.c: see bench_print.h. */
#include "cli/bench_print.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

static double mib(int64_t bytes) { return (double)bytes / 1048576; }

static void put(cli *c, json_writer *w) {
    if (w->failed) cli_warn(c, "no memory for a line of results");
    else printf("%s\n", w->text);
    jw_free(w);
}

static void json_operations(json_writer *w, const bench_line *l) {
    const double runs = l->m->time.n, all = (l->profile->cpu ? l->m->cpu : l->m->time.mean) * runs;
    jw_open(w, "operations", '[');
    for (int i = 0; i < l->profile->n; i++) {
        const op_profile_row *r = &l->profile->row[i];
        jw_open(w, NULL, '{');
        jw_string(w, "name", r->name);
        jw_double(w, "calls", (double)r->calls / runs), jw_double(w, "seconds", r->seconds / runs), jw_double(w, "share", r->seconds / all);
        if (r->flops > 0) jw_double(w, "gflop", r->flops / runs / 1e9), jw_double(w, "gflops", r->flops / r->seconds / 1e9);
        jw_double(w, "bytes", r->bytes / runs), jw_double(w, "gbytes_per_second", r->bytes / r->seconds / 1e9);
        jw_close(w, '}');
    }
    jw_close(w, ']');
}

static void as_json(cli *c, const bench_line *l) {
    const measured *m = l->m;
    const spread *t = &m->time;
    const double rate = m->flops / t->median;
    json_writer w = {0};
    jw_open(&w, NULL, '{');
    jw_string(&w, "bench", l->what);
    if (l->device) jw_string(&w, "device", l->device), jw_string(&w, "precision", l->precision);
    if (l->threads) jw_int(&w, "threads", l->threads);
    if (l->model) jw_string(&w, "model", l->model);
    if (l->frames) jw_int(&w, "frames", l->frames), jw_int(&w, "height", l->height), jw_int(&w, "width", l->width);
    if (m->clips) jw_int(&w, "batch", m->clips);
    if (m->tokens) jw_int(&w, "tokens", m->tokens);
    if (m->context) jw_int(&w, "context_tokens", m->context), jw_int(&w, "target_tokens", m->target);
    jw_int(&w, "runs", t->n);
    jw_double(&w, "seconds", t->median), jw_double(&w, "seconds_q1", t->q1), jw_double(&w, "seconds_q3", t->q3);
    jw_double(&w, "seconds_min", t->low), jw_double(&w, "seconds_max", t->high), jw_double(&w, "seconds_mean", t->mean);
    jw_double(&w, "cpu_seconds", m->cpu);
    if (m->clips) jw_double(&w, "clips_per_second", (double)m->clips / (m->flops > 0 ? t->median : t->mean));
    if (m->frames) jw_int(&w, "frames_decoded", m->frames), jw_double(&w, "frames_decoded_per_second", (double)m->frames / t->mean);
    if (m->flops > 0) jw_double(&w, "gflop", m->flops / 1e9), jw_double(&w, "gflops", rate / 1e9);
    if (m->flops > 0 && l->peak > 0) jw_double(&w, "peak_gflops", l->peak / 1e9), jw_double(&w, "share_of_peak", rate / l->peak);
    if (m->flops > 0 && l->threads == 1) { /* undisturbed by what else runs on the machine */
        jw_double(&w, "gflops_cpu", m->flops / m->cpu / 1e9);
        if (l->peak_cpu > 0) jw_double(&w, "peak_gflops_cpu", l->peak_cpu / 1e9), jw_double(&w, "share_of_peak_cpu", m->flops / m->cpu / l->peak_cpu);
    }
    if (m->weights) jw_int(&w, "weight_bytes", m->weights);
    if (m->working) jw_int(&w, "working_bytes", m->working);
    jw_int(&w, "rss_first_bytes", m->first.anon + m->first.file), jw_int(&w, "rss_bytes", m->last.anon + m->last.file);
    jw_int(&w, "rss_anon_bytes", m->last.anon), jw_int(&w, "rss_file_bytes", m->last.file), jw_int(&w, "peak_bytes", m->last.peak);
    if (l->profile) jw_string(&w, "operations_clock", l->profile->cpu ? "cpu" : "wall"), json_operations(&w, l);
    jw_close(&w, '}');
    put(c, &w);
}

static void number(char *text, size_t size, double v, const char *form) {
    if (v > 0) snprintf(text, size, form, v);
    else snprintf(text, size, "-");
}

static const char *ms(char text[32], double s) {
    snprintf(text, 32, s < 0.001 ? "%.4f" : s < 0.1 ? "%.2f" : s < 10 ? "%.1f" : "%.0f", s * 1e3);
    return text;
}

static void operations(const bench_line *l) {
    const double runs = l->m->time.n, all = (l->profile->cpu ? l->m->cpu : l->m->time.mean) * runs;
    double known = 0;
    printf("    %-40s %9s %10s %7s %9s %9s\n", "operation", "calls/run", l->profile->cpu ? "cpu ms/run" : "ms/run", "share", "GFLOP/s", "GB/s");
    for (int i = 0; i < l->profile->n; i++) {
        const op_profile_row *r = &l->profile->row[i];
        char a[32], rate[32];
        number(rate, sizeof rate, r->flops / r->seconds / 1e9, "%.1f");
        printf("    %-40s %9.4g %10s %5.1f %% %9s %9.1f\n", r->name, (double)r->calls / runs, ms(a, r->seconds / runs), 100 * r->seconds / all, rate,
               r->bytes / r->seconds / 1e9);
        known += r->seconds;
    }
    char a[32];
    printf("    %-40s %9s %10s %5.1f %%\n", "(between operations)", "", ms(a, (all - known) / runs), 100 * (all - known) / all);
}

void bench_print(cli *c, const bench_line *l, int *lines) {
    const measured *m = l->m;
    const spread *t = &m->time;
    cli_progress_end(c);
    if (l->profile) profile_sort(l->profile);
    if (c->json) {
        as_json(c, l);
        fflush(stdout);
        return;
    }
    char a[32], q1[32], q3[32], rate[32], share[32], clips[32], weights[32], working[32];
    if (!(*lines)++)
        printf("%-32s %10s  %-22s %5s %9s %8s %9s   %s\n", "", "median ms", "   quartiles", "runs", "GFLOP/s", "of peak", "clips/s", "MiB: weights, working, process at most");
    number(rate, sizeof rate, m->flops / t->median / 1e9, "%.1f");
    number(share, sizeof share, l->peak > 0 ? 100 * m->flops / t->median / l->peak : 0, "%.1f %%");
    number(clips, sizeof clips, (double)m->clips / (m->flops > 0 ? t->median : t->mean), "%.4g");
    number(weights, sizeof weights, mib(m->weights), "%.1f");
    number(working, sizeof working, mib(m->working), "%.1f");
    printf("%-32s %10s %10s … %-10s %5d %9s %8s %9s   %s, %s, %.1f\n", l->what, ms(a, t->median), ms(q1, t->q1), ms(q3, t->q3), t->n, rate, share, clips, weights, working,
           mib(m->last.peak));
    if (m->context) printf("    %lld context and %lld target tokens a clip\n", (long long)m->context, (long long)m->target);
    if (m->frames) printf("    %lld frames decoded a run, %.0f a second\n", (long long)m->frames, (double)m->frames / t->mean);
    if (l->profile) operations(l);
    fflush(stdout);
}

void bench_print_cosines(cli *c, const char *model, const char *precision, double token_mean, double token_worst, double pooled_mean, double pooled_worst,
                         int64_t tokens, int64_t clips) {
    cli_progress_end(c);
    if (!c->json) {
        printf("%s beside f32, cosine: tokens %.7f on average, %.7f at worst (of %lld); pooled %.7f, %.7f at worst (of %lld clip%s)\n", precision, token_mean, token_worst,
               (long long)tokens, pooled_mean, pooled_worst, (long long)clips, clips == 1 ? "" : "s");
        return;
    }
    json_writer w = {0};
    jw_open(&w, NULL, '{');
    jw_string(&w, "bench", "accuracy"), jw_string(&w, "model", model), jw_string(&w, "precision", precision);
    jw_int(&w, "batch", clips), jw_int(&w, "tokens", tokens);
    jw_double(&w, "cosine_token_mean", token_mean), jw_double(&w, "cosine_token_worst", token_worst);
    jw_double(&w, "cosine_pooled_mean", pooled_mean), jw_double(&w, "cosine_pooled_worst", pooled_worst);
    jw_close(&w, '}');
    put(c, &w);
}
