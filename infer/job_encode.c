/* job_encode.c: several sessions compute at once, a thread each: on small models a team of threads spends its time waiting for itself, and
 * decoders that need a core stop all of it. Measured on 2 cores, ViT-Ti at 16 x 128 x 128: a team of two 16 clips/s, two of one 19. */
#include "infer/job.h"

#include <string.h>
#include <unistd.h>

enum { MOST_ENCODERS = 256 };
enum { W_EMPTY, W_READY, W_BUSY, W_DONE };

typedef struct encoder {
    encoders *all;
    jepa_run *run;
    pthread_t thread;
    int started;
} encoder;

struct encoders {
    const embed_job *j;
    work *ring;
    int size, first, given, quit; /* those given: first … first+given-1 */
    encoder *e;
    int n;
    pthread_mutex_t lock;
    pthread_cond_t ready, done;
};

static void *encode(void *arg) {
    encoder *me = arg;
    encoders *a = me->all;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        work *w = NULL;
        for (int i = 0; i < a->given && !w; i++)
            if (a->ring[(a->first + i) % a->size].state == W_READY) w = &a->ring[(a->first + i) % a->size];
        if (!w && a->quit) break;
        if (!w) {
            pthread_cond_wait(&a->ready, &a->lock);
            continue;
        }
        w->state = W_BUSY;
        pthread_mutex_unlock(&a->lock);
        w->rc = w->n ? run_encode_mixed(me->run, a->j->plan, w->x, w->still, w->n, w->rows, &w->err) : 0;
        pthread_mutex_lock(&a->lock);
        w->state = W_DONE;
        pthread_cond_signal(&a->done);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

void encoders_shape(const embed_job *j, int *sessions, int *threads) {
    const jepa *m = j->m;
    const int all = dev_threads(m->d);
    const enc_shape s = {
        .batch = j->batch < 1 ? 1 : j->batch, .frames = j->plan->frames, .height = j->plan->clip.crop, .width = j->plan->clip.crop};
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE), each = (double)enc_acts_bytes(m->e, &s);
    int n = all < MOST_ENCODERS ? all : MOST_ENCODERS;
    if (j->plan->every <= 0 && (double)j->inputs->n * j->plan->clips < 2.0 * n) n = 1; /* a clip or two: all cores for each */
    while (n > 1 && each * n > memory / 4) n--;
    if (j->encoders > 0) n = j->encoders < MOST_ENCODERS ? j->encoders : MOST_ENCODERS;
    *sessions = n, *threads = all / n > 0 ? all / n : 1;
}

void encoders_close(encoders **ap) {
    encoders *a = *ap;
    if (!a) return;
    pthread_mutex_lock(&a->lock);
    a->quit = 1;
    for (int i = 0; i < a->given; i++) /* what nobody will ask for is not begun */
        if (a->ring[(a->first + i) % a->size].state == W_READY) a->ring[(a->first + i) % a->size].state = W_EMPTY;
    pthread_cond_broadcast(&a->ready);
    pthread_mutex_unlock(&a->lock);
    for (int i = 0; a->e && i < a->n; i++) {
        if (a->e[i].started) pthread_join(a->e[i].thread, NULL);
        jepa_session_close(&a->e[i].run);
    }
    for (int i = 0; a->ring && i < a->size; i++)
        mem_free(a->ring[i].x), mem_free(a->ring[i].still), mem_free(a->ring[i].rows), mem_free(a->ring[i].row);
    mem_free(a->ring), mem_free(a->e);
    pthread_cond_destroy(&a->ready);
    pthread_cond_destroy(&a->done);
    pthread_mutex_destroy(&a->lock);
    mem_free(a);
    *ap = NULL;
}

int encoders_open(encoders **out, const embed_job *j, jepa_err *err) {
    encoders *a = *out = mem_alloc(1, sizeof *a);
    const clip_plan *p = j->plan;
    const size_t clip = (size_t)p->frames * (size_t)p->clip.crop * (size_t)p->clip.crop * 3, row = (size_t)(p->per_row * p->dim);
    const size_t most = (size_t)(j->batch < 1 ? 1 : j->batch);
    int threads, rc = 0;
    if (!a) return err_set(err, JEPA_E_MEMORY, "no memory for encoders");
    a->j = j;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->ready, NULL);
    pthread_cond_init(&a->done, NULL);
    encoders_shape(j, &a->n, &threads);
    a->size = a->n + 1; /* one is filled while the others are computed */
    if (!(a->ring = mem_alloc((size_t)a->size, sizeof *a->ring)) || !(a->e = mem_alloc((size_t)a->n, sizeof *a->e)))
        rc = err_set(err, JEPA_E_MEMORY, "no memory for %d encoders", a->n);
    for (int i = 0; i < a->size && !rc; i++) {
        work *w = &a->ring[i];
        w->most = (int)most;
        if (!(w->x = mem_alloc(most, clip)) || !(w->still = mem_alloc(most, 1)) || !(w->rows = mem_alloc(most * row, sizeof(float))) ||
            !(w->row = mem_alloc(most, sizeof *w->row)))
            rc = err_set(err, JEPA_E_MEMORY, "no memory for batches of %zu clips: a smaller --batch needs less", most);
    }
    for (int i = 0; i < a->n && !rc; i++) {
        a->e[i].all = a;
        rc = session_open(j->m, threads, &a->e[i].run, err);
    }
    for (int i = 0; i < a->n && !rc; i++)
        if (!(a->e[i].started = !pthread_create(&a->e[i].thread, NULL, encode, &a->e[i])))
            rc = err_set(err, JEPA_E_MEMORY, "a computing thread could not be started");
    if (rc < 0) encoders_close(out);
    return rc;
}

int encoders_count(const encoders *a) { return a->n; }
int encoders_pending(const encoders *a) { return a->given; }

work *encoders_new(encoders *a) {
    if (a->given == a->size) return NULL;
    work *w = &a->ring[(a->first + a->given) % a->size];
    w->n = 0, w->end = S_FREE, w->reason[0] = 0, w->rc = 0, w->err = (jepa_err){0};
    return w;
}

void encoders_give(encoders *a) {
    pthread_mutex_lock(&a->lock);
    a->ring[(a->first + a->given) % a->size].state = W_READY;
    a->given++;
    pthread_cond_signal(&a->ready);
    pthread_mutex_unlock(&a->lock);
}

work *encoders_oldest(encoders *a, int wait) {
    work *w = NULL;
    pthread_mutex_lock(&a->lock);
    while (a->given && wait && a->ring[a->first].state != W_DONE) pthread_cond_wait(&a->done, &a->lock);
    if (a->given && a->ring[a->first].state == W_DONE) w = &a->ring[a->first];
    pthread_mutex_unlock(&a->lock);
    return w;
}

void encoders_taken(encoders *a) {
    pthread_mutex_lock(&a->lock);
    a->ring[a->first].state = W_EMPTY;
    a->first = (a->first + 1) % a->size;
    a->given--;
    pthread_mutex_unlock(&a->lock);
}
