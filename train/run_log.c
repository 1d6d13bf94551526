/* run_log.c: what a run says: log.csv, one row a step, and the line a person watches. */
#include "train/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char header[] = "step,loss,lr,weight_decay,ema,grad_norm,target_std,target_rank,target_clip_std,target_clip_rank,context_std,context_rank,"
                             "clips_per_s,step_ms,device_ms,data_ms,replaced\n";

void run_say(const run *r, const char *fmt, ...) {
    if (!r->h || !r->h->line) return;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->h->line(r->h->ctx, text, 0);
}

static int log_failed(const run *r, jepa_err *err) {
    return err_set(err, JEPA_E_IO, "%s/log.csv: cannot be written: %s; the checkpoints before are intact", r->dir, strerror(errno));
}

int run_log_open(run *r, jepa_err *err) {
    char path[1100], *old = NULL;
    size_t size = 0, kept = 0;
    int64_t step = train_step_count(r->t);
    snprintf(path, sizeof path, "%s/log.csv", r->dir);
    if (step > 0 && access(path, F_OK) == 0) {
        int rc = file_read(path, (size_t)1 << 32, &old, &size, err);
        if (rc < 0) return rc;
        /* a run that was killed wrote rows after its last checkpoint: those steps are done again */
        for (char *line = old; *line;) {
            char *end = strchr(line, '\n');
            if (!end || (line != old && strtoll(line, NULL, 10) > step)) break;
            line = end + 1;
            kept = (size_t)(line - old);
        }
    }
    int rc = 0;
    if (kept) rc = file_write_atomic(path, old, kept, err);
    mem_free(old);
    if (rc < 0) return rc;
    r->csv = fopen(path, kept ? "ae" : "we");
    if (!r->csv || (!kept && fputs(header, r->csv) < 0)) return log_failed(r, err);
    return 0;
}

void run_log_close(run *r) {
    if (r->csv) fclose(r->csv);
    r->csv = NULL;
}

static void cell(FILE *f, int there, double v) { there ? fprintf(f, ",%.6g", v) : fputc(',', f); }

int run_log_step(run *r, const train_numbers *n, const monitor_numbers *target, const monitor_numbers *context, const run_times *t, int replaced, jepa_err *err) {
    double clips = (double)r->c->feed.batch * r->c->accumulate, rate = t->step > 0 ? clips / t->step : 0;
    int last = n->step == r->steps;
    if (n->step % r->c->log_every == 0 || last || target) {
        FILE *f = r->csv;
        /* %.17g: a resumed run is compared digit for digit */
        fprintf(f, "%" PRId64 ",%.17g,%.17g,%.17g,%.17g,%.9g", n->step, n->loss, n->lr, n->wd, n->ema, n->grad_norm);
        cell(f, target != NULL, target ? target->std_tokens : 0);
        cell(f, target != NULL, target ? target->rank_tokens : 0);
        cell(f, target != NULL, target ? target->std_clips : 0);
        cell(f, target != NULL, target ? target->rank_clips : 0);
        cell(f, context != NULL, context ? context->std_tokens : 0);
        cell(f, context != NULL, context ? context->rank_tokens : 0);
        fprintf(f, ",%.2f,%.2f,%.2f,%.2f,%d\n", rate, 1e3 * t->step, 1e3 * t->device, 1e3 * t->data, replaced);
        if (fflush(f) || ferror(f)) return log_failed(r, err);
    }
    double now = clock_seconds();
    if (r->h && r->h->line && (now - r->last_line > 0.25 || last)) {
        char text[400];
        int64_t done = n->step - r->first_step;
        double left = done > 0 ? (now - r->started) / (double)done * (double)(r->steps - n->step) : 0;
        int k = snprintf(text, sizeof text, "step %" PRId64 "/%" PRId64 "  loss %.4f  lr %.2e  |g| %.2f  %.1f clips/s  step %.0f ms (device %.0f, data %.0f)",
                         n->step, r->steps, n->loss, n->lr, n->grad_norm, rate, 1e3 * t->step, 1e3 * t->device, 1e3 * t->data);
        if (target && k > 0 && (size_t)k < sizeof text)
            k += snprintf(text + k, sizeof text - (size_t)k, "  std %.2f rank %.1f, clips %.2f %.1f", target->std_tokens, target->rank_tokens, target->std_clips,
                          target->rank_clips);
        if (k > 0 && (size_t)k < sizeof text) snprintf(text + k, sizeof text - (size_t)k, "  %d:%02d left", (int)(left / 60), (int)left % 60);
        r->h->line(r->h->ctx, text, 1);
        r->last_line = now;
    }
    return 0;
}
