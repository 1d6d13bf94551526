/* pool.c: a team of threads that waits between jobs: a short spin, because in a model's pass the next job comes within microseconds, then sleep,
 * because a thread that spins on a shared core burns the slice that the awaited one needs.
 *
 * A job's items are cut into one share for each member. Whoever is through with its own goes on with what the others have not begun, so a
 * member that has no core at the moment delays the job by the one item it holds, or by nothing if it has not come yet. Members come and go through
 * `gate`: they enter while it is open, and the caller shuts it and waits for those inside. */
#include "base/base.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum { MOST = 1024, SPIN_NS = 30000, SPIN_CROWDED_NS = 1000 /* more threads than cores */ };

/* gate: number of the job in the upper half, then its members (15 bits), whether it is open, and how many are inside (16 bits). */
static const uint64_t OPEN = 1u << 16;
static uint32_t gate_job(uint64_t g) { return (uint32_t)(g >> 32); }
static int gate_members(uint64_t g) { return (int)(g >> 17 & 0x7fff); }
static int gate_inside(uint64_t g) { return (int)(g & 0xffff); }

typedef struct share { _Alignas(64) atomic_llong next; int64_t end; } share;

typedef struct worker {
    _Alignas(64) team *p;
    int index; /* 1 … threads-1; the caller is 0 */
    pthread_t id;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_int asleep;
} worker;

struct team {
    int threads, started; /* started: workers that run; changed by the owner of busy only, and by close */
    int64_t spin;
    worker *worker; /* [threads]; 0 is not used */
    share *share;   /* [threads] */
    void (*fn)(void *, int64_t);
    void *ctx;
    _Alignas(64) _Atomic uint64_t gate;
    atomic_int busy, stop, waiting;
    pthread_mutex_t lock; /* of done */
    pthread_cond_t done;
};

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void breathe(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- a member's part ---- */

static void run_shares(team *p, int me, int members) {
    for (int k = 0; k < members; k++) {
        share *s = &p->share[(me + k) % members];
        for (;;) {
            if (atomic_load_explicit(&s->next, memory_order_relaxed) >= s->end) break;
            int64_t i = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
            if (i >= s->end) break;
            p->fn(p->ctx, i);
        }
    }
}

/* 0: the job is not open, or not for this one. */
static int enter(team *p, int me, uint64_t *g) {
    *g = atomic_load(&p->gate);
    while ((*g & OPEN) && me < gate_members(*g))
        if (atomic_compare_exchange_weak(&p->gate, g, *g + 1)) return 1;
    return 0;
}

static void leave(team *p) {
    uint64_t g = atomic_fetch_sub(&p->gate, 1) - 1;
    if ((g & OPEN) || gate_inside(g) || !atomic_load(&p->waiting)) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

/* Until the gate's job is another one. */
static void await_job(worker *w, uint32_t seen) {
    team *p = w->p;
    for (int64_t end = now_ns() + p->spin; now_ns() < end;)
        for (int i = 0; i < 16; i++, breathe())
            if (gate_job(atomic_load(&p->gate)) != seen) return;
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->asleep, 1); /* before the last look: whoever opens the gate sees one or the other */
    while (gate_job(atomic_load(&p->gate)) == seen) pthread_cond_wait(&w->wake, &w->lock);
    atomic_store(&w->asleep, 0);
    pthread_mutex_unlock(&w->lock);
}

static void *work(void *arg) {
    worker *w = arg;
    team *p = w->p;
    for (uint32_t seen = 0;;) {
        uint64_t g;
        await_job(w, seen);
        const int in = enter(p, w->index, &g);
        seen = gate_job(g);
        if (!in) { /* asked now, not before: the gate just looked at may be that of the end, after which no other comes */
            if (atomic_load(&p->stop)) return NULL;
            continue;
        }
        run_shares(p, w->index, gate_members(g));
        leave(p);
    }
}

/* ---- the caller's ---- */

static void open_gate(team *p, int members, int to_wake) {
    uint64_t job = (uint64_t)gate_job(atomic_load(&p->gate)) + 1;
    atomic_store(&p->gate, job << 32 | (uint64_t)members << 17 | (members ? OPEN : 0));
    for (int k = 1; k < to_wake; k++) {
        worker *w = &p->worker[k];
        if (!atomic_load(&w->asleep)) continue;
        pthread_mutex_lock(&w->lock);
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->lock);
    }
}

static void shut_gate(team *p) {
    if (!gate_inside(atomic_fetch_and(&p->gate, ~OPEN))) return;
    for (int64_t end = now_ns() + p->spin; now_ns() < end;)
        for (int i = 0; i < 16; i++, breathe())
            if (!gate_inside(atomic_load(&p->gate))) return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->waiting, 1);
    while (gate_inside(atomic_load(&p->gate))) pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->waiting, 0);
    pthread_mutex_unlock(&p->lock);
}

/* Workers start at the first job that wants them; signals are for the program's own threads. */
static int start(team *p, int members) {
    sigset_t all, before;
    if (p->started + 1 >= members) return members;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (p->started + 1 < members) {
        worker *w = &p->worker[p->started + 1];
        w->p = p;
        w->index = p->started + 1;
        if (pthread_create(&w->id, NULL, work, w)) break; /* no thread was to be had: fewer do the same work */
        p->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return p->started + 1 < members ? p->started + 1 : members;
}

void pool_for(team *p, int threads, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx) {
    int members = !p || threads < 1 ? 1 : threads < p->threads ? threads : p->threads;
    if (members > n) members = (int)n;
    if (members < 2 || atomic_exchange(&p->busy, 1)) {
        for (int64_t i = 0; i < n; i++) fn(ctx, i);
        return;
    }
    members = start(p, members);
    p->fn = fn;
    p->ctx = ctx;
    for (int k = 0; k < members; k++) {
        atomic_store_explicit(&p->share[k].next, n / members * k + (k < n % members ? k : n % members), memory_order_relaxed);
        p->share[k].end = n / members * (k + 1) + (k + 1 < n % members ? k + 1 : n % members);
    }
    open_gate(p, members, members);
    run_shares(p, 0, members);
    shut_gate(p);
    atomic_store(&p->busy, 0);
}

int pool_open(team **out, int threads, jepa_err *err) {
    if (!out) return err_set(err, JEPA_E_USE, "pool_open: no place for the result");
    *out = NULL;
    if (threads < 1 || threads > MOST) return err_set(err, JEPA_E_USE, "pool_open: %d threads is outside 1 to %d", threads, MOST);
    team *p = mem_alloc(1, sizeof *p);
    if (!p) goto fail;
    p->threads = threads;
    p->spin = threads > pool_cores() ? SPIN_CROWDED_NS : SPIN_NS;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->done, NULL);
    p->worker = mem_alloc((size_t)threads, sizeof *p->worker);
    p->share = mem_alloc((size_t)threads, sizeof *p->share);
    if (!p->worker || !p->share) goto fail;
    for (int k = 1; k < threads; k++) {
        pthread_mutex_init(&p->worker[k].lock, NULL);
        pthread_cond_init(&p->worker[k].wake, NULL);
    }
    *out = p;
    return 0;
fail:
    pool_close(&p);
    return err_set(err, JEPA_E_MEMORY, "no memory for a team of %d threads", threads);
}

void pool_close(team **pp) {
    if (!pp || !*pp) return;
    team *p = *pp;
    if (p->started) {
        atomic_store(&p->stop, 1);
        open_gate(p, 0, p->started + 1); /* a job without members */
    }
    for (int k = 1; k <= p->started; k++) pthread_join(p->worker[k].id, NULL);
    for (int k = 1; p->worker && p->share && k < p->threads; k++) {
        pthread_cond_destroy(&p->worker[k].wake);
        pthread_mutex_destroy(&p->worker[k].lock);
    }
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->share);
    mem_free(p->worker);
    mem_free(p);
    *pp = NULL;
}

void pool_once(int threads, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx) {
    team *p = NULL;
    if (threads > n) threads = (int)n;
    if (threads > MOST) threads = MOST;
    if (threads > 1) pool_open(&p, threads, NULL); /* without memory for a team: alone */
    pool_for(p, threads, n, fn, ctx);
    pool_close(&p);
}

int pool_cores(void) {
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re"); /* a container's share, rounded up */
    if (f) {
        long long quota, period;
        if (fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0 && (quota + period - 1) / period < n)
            n = (int)((quota + period - 1) / period);
        fclose(f);
    }
    return n < 1 ? 1 : n;
}
